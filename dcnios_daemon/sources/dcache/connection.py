"""What the parts of a dCache source share while they are connected to one channel."""

from dataclasses import dataclass

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.sources.dcache.client.channel import Channel
from dcnios_daemon.sources.dcache.client.frontend import Frontend
from dcnios_daemon.sources.dcache.facts import Facts
from dcnios_daemon.sources.dcache.ledger import Ledger
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.tape import Tape
from dcnios_daemon.sources.dcache.timing import Timing
from dcnios_daemon.sources.dcache.watches import Watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """From one connect to the end of it."""

    source: str
    """The source's name."""
    settings: DcacheSettings
    frontend: Frontend
    channel: Channel
    watches: Watches
    """Changed only by the walker."""
    ledger: Ledger
    facts: Facts
    tape: Tape
    clock: Clock
    timing: Timing

    def wants(self, *actions: str) -> bool:
        """Whether one of the actions is to make events."""
        return not set(actions).isdisjoint(self.settings.on)
