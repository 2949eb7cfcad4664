"""What follows from a failure: another attempt, later, or the end. Pure; the dice are handed in."""

import msgspec

from dcnios_daemon.core.patience import backoff
from dcnios_daemon.core.ports import Dead, Decision, Failure, Outcome, Retry, Succeed

_MAY_HAVE_RUN = frozenset({Failure.UNKNOWN, Failure.SUSPICIOUS})


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A route's ``retry`` block. Times in seconds."""

    attempts: int = 5
    backoff: float = 2.0
    max_backoff: float = 600.0
    on: frozenset[Failure] = frozenset({Failure.INFRASTRUCTURE})
    exit_codes: frozenset[int] = frozenset()

    def decide(self, outcome: Outcome, *, attempt: int, dice: float, events: int = 1) -> Decision:
        """What becomes of a delivery after this outcome of its ``attempt`` (from 1).

        The failure of a batch says nothing of any one of its events: each has a try of its own, whatever
        the policy asks, and dies of that one or not at all. It makes no difference whether the script failed,
        ran too long, or was refused (for its size, it may be). Only where the batch may still be running, or
        have done its work, the policy decides: to run it again is to risk running it twice.

        Args:
            outcome: How the attempt ended.
            attempt: Which one it was.
            dice: A random number in [0, 1): spreads retries over the second half of the pause.
            events: How many events its order was for.
        """
        if outcome.succeeded:
            return Succeed()
        wanted = outcome.failure in self.on or outcome.exit_code in self.exit_codes
        to_be_parted = events > 1 and outcome.failure not in _MAY_HAVE_RUN
        if not to_be_parted and (not wanted or attempt >= self.attempts):
            return Dead()
        return Retry(after=backoff(attempt, first=self.backoff, most=self.max_backoff, dice=dice))
