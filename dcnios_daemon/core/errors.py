"""One tree of errors. Foreign exceptions become ours at the edge that met them, once.

``retryable`` answers the only question that callers ask: may the same call succeed later?
"""

from collections.abc import Awaitable, Callable


class DcniosError(Exception):
    """Something went wrong that the daemon knows how to name."""

    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class ConfigError(DcniosError):
    """The configuration cannot be used. Every line of the message is one mistake with its place."""


class SourceError(DcniosError):
    """A source could not give events."""

    def __init__(
        self,
        message: str | None = None,
        *,
        wait: float = 0.0,
        longest: float = 0.0,
        sooner: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Leave the neighbour alone for at least ``wait`` seconds, which double up to ``longest`` while it is
        the same again and again; but try again as soon as ``sooner``, which raises nothing, returns."""
        super().__init__(message)
        self.wait = wait
        self.longest = max(wait, longest)
        self.sooner = sooner


class Disconnected(SourceError):
    """The server went away or cannot be reached: connect again after a pause."""

    retryable = True


class Rejected(SourceError):
    """The server refuses us (login, right, missing topic): hammering on makes it worse."""

    retryable = True


class Malformed(SourceError):
    """What arrived is not what the protocol says. The message names the thing and the place."""


class JournalError(DcniosError):
    """The journal could not do what was asked."""


class JournalFull(JournalError):
    """The journal is at its bound; nothing was accepted. Wait for the gate."""

    retryable = True


class JournalUnavailable(JournalError):
    """The disk under the journal fails (full, read-only, I/O error); nothing was accepted."""

    retryable = True


class JournalCorrupt(JournalError):
    """The journal file is damaged or is no journal."""


class StoreError(DcniosError):
    """A store (S3, WebDAV) did not do what staging asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is overloaded: try again later."""

    retryable = True


class SinkError(DcniosError):
    """A sink could not take an order."""


class SinkBusy(SinkError):
    """The neighbour asks to be left alone for a while (429, quota): wait, burn no attempt."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait, when the neighbour said so."""


class SinkUnavailable(SinkError):
    """The neighbour is away or failing (5xx, timeout, refused): wait, burn no attempt."""

    retryable = True

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait, when the neighbour said so while it failed."""


class SinkUnreachable(SinkUnavailable):
    """There was no connection to the neighbour: what was to be sent certainly was not."""


class SinkMisconfigured(SinkError):
    """The neighbour is there, but our address, login or right is wrong, or so it seems (404 while it is
    deployed anew). Not taken: wait until somebody mends it, burn no attempt. Nobody else's trouble."""

    retryable = True


class OrderRefused(SinkError):
    """This very order can never be taken (400, 422, too large): the delivery is dead."""

    def __init__(self, message: str | None = None, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered
        """Whether the neighbour itself said so: then it is there, and well."""
