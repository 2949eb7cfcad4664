"""How long a dCache source waits for what, and how much it asks for: in one place, for tests to be quick."""

import msgspec

from dcnios_daemon.sources.dcache.client.frontend import RATE
from dcnios_daemon.sources.dcache.client.listing import PAGE


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds, where nothing else is said."""

    beat: int = 30
    """Between heartbeats on the stream; dCache allows up to 300."""
    beats_missed: int = 3
    """Without any sign for so many beats a stream is dead."""
    settle: float = 3.0
    """From a subscription's yes until all of dCache's services may be believed to know of it."""
    grace: float = 0.5
    """From *closed* to the first look: uploads under a temporary name are renamed right after."""
    look_again: float = 0.25
    """Before the second look at what is not complete; doubles each time."""
    longest_look: float = 5.0
    """Until when it doubles."""
    patience: float = 60.0
    """From *closed* to giving up: the next listing, or the next *closed*, takes it up again."""
    unfinished: float = 60.0
    """From giving up what is there, but incomplete, to looking at it once more; doubles each time."""
    longest_unfinished: float = 1800.0
    """Until when it doubles."""
    given_up: float = 86_400.0
    """Age at which an incomplete file is not looked at any more unless something is told of it."""

    rest: float = 5.0
    """After listing everything, at least; and at least as long as that took."""
    retry: float = 60.0
    """The same after some of it could not be listed."""
    rate: float = RATE
    """Calls a second."""
    page: int = PAGE
    """Entries of a directory that are asked for at once."""
    store: float = 30.0
    """Between positions that are stored without an event."""
    give_way: float = 30.0
    """For which the channel is left to another client that took it, the first time."""
    stay_away: float = 600.0
    """The same for the second time; doubles each time."""
    longest_away: float = 4800.0
    """Until when it doubles."""

    @property
    def silence(self) -> float:
        """After which a stream is dead."""
        return self.beat * self.beats_missed
