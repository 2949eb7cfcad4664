"""The only place of the test bed that waits by looking again."""

import time
from collections.abc import Callable

INTERVAL_SECONDS = 0.05


def until(check: Callable[[], bool], what: str, seconds: float) -> None:
    """Looks until `check` holds; an OSError (connection refused, say) means not yet.

    Raises:
        TimeoutError: it did not hold in time; the message names what was waited for.
    """
    deadline = time.monotonic() + seconds
    last: OSError | None = None
    while True:
        try:
            if check():
                return
        except OSError as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{what} did not happen within {seconds:.0f} s" + (f": {last}" if last else "")
            )
        time.sleep(INTERVAL_SECONDS)
