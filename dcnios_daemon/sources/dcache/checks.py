"""What is to be looked at. Pure."""

import msgspec

from dcnios_daemon.sources.dcache.watches import Place


class Check(msgspec.Struct, eq=False, kw_only=True):
    """A path that has to be looked at before anything is said of it. Times are monotonic seconds."""

    place: Place
    path: str
    due: float
    until: float
    """When to give up."""
    data: bytes
    """What the event will carry."""
    id: int | None = None
    """The stream's id that told of it; None: a listing."""
    cookie: str | None = None
    """Of the rename that told of it."""
    is_upload: bool = True
    """Whether something was written; else it may be a mere rename."""
    is_change: bool = False
    """Whether only something about it changed: then it is no upload, and no longer waited for."""
    found_at: float = 0.0
    """When a listing showed it, seconds since the epoch."""
    is_taken: bool = False
    """Whether it is being looked at."""
    tries: int = 0
    pause: float = 0.0
    """After which it is looked at once more, though its file was given up unfinished; 0: it was not."""
    given_up: float = 0.0
    """When it was for the first time."""
    done: bool = False
