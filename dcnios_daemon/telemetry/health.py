"""Who is well and who is not, with the reason in words: what ``/readyz`` and the status page show."""

from collections.abc import Callable, Mapping

Probe = Callable[[], str | None]
"""Says why a part is not ready; None when it is. Must be cheap and never fail."""


class Health:
    """The parts that must be well before the daemon is ready."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}

    def watch(self, part: str, probe: Probe) -> None:
        """Ask ``probe`` about that part from now on."""
        self._probes[part] = probe

    def reasons(self) -> Mapping[str, str]:
        """Part to the reason why it is not ready; empty when all are."""
        found = ((part, probe()) for part, probe in self._probes.items())
        return {part: reason for part, reason in found if reason is not None}
