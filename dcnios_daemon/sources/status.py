"""What is known of a source now, for the status page and for readiness."""

import enum

import msgspec


class SourceState(enum.StrEnum):
    """Where a source is."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    PAUSED = "paused"
    """The journal takes nothing now."""
    FAILED = "failed"
    """Waiting to be tried again."""


class SourceStatus(msgspec.Struct, kw_only=True):
    """What is known of a source now, for the page and for readiness. Times in seconds since the epoch."""

    name: str
    state: SourceState = SourceState.CONNECTING
    since: float
    """When it came into this state."""
    error: str = ""
    """Why it does not work; empty while it does."""
    last_error: str = ""
    """The last such reason, also when that is over."""
    again_at: float | None = None
    """While it has failed: when it is tried again."""
    accepted: int = 0
    """Events committed to the journal in this life of the daemon."""
    duplicates: int = 0
    last_accepted: float | None = None
    """When a batch was last committed."""

    def trouble(self) -> str | None:
        """Why it does not give events; None when it does."""
        if self.state is SourceState.CONNECTED:
            return None
        return f"{self.state}: {self.error}" if self.error else str(self.state)
