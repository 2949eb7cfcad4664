"""What the events of a dCache channel say. Pure.

Facts: dCache's ``InotifyEventPayload`` (one flag first, then ``IN_ISDIR``; null keys absent), ``Channel``
(the five SYSTEM types), ``Inotify`` (management flags stand alone).
"""

from collections.abc import Collection
from urllib.parse import unquote

import msgspec

FLAGS = (
    "IN_CREATE",
    "IN_CLOSE_WRITE",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_MOVE_SELF",
    "IN_ONLYDIR",
)
"""What every watch asks for. Without the flags of reading: our own listings would come back as events."""


def flags(on: Collection[str]) -> tuple[str, ...]:
    """What a watch asks for so that these actions can be told.

    >>> flags(["created"]) == FLAGS, "IN_ATTRIB" in flags(["staged"])
    (True, True)
    """
    return (*FLAGS, "IN_ATTRIB") if "staged" in on else FLAGS


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """The inner part of an inotify event."""

    name: str | None = None
    """The child's name; None: the watched directory itself."""
    cookie: str | None = None
    """The same in the two halves of a rename."""
    mask: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """What happened."""
        return self.mask[0] if self.mask else ""

    @property
    def is_directory(self) -> bool:
        """Whether it happened to a directory."""
        return "IN_ISDIR" in self.mask


class Note(msgspec.Struct, frozen=True):
    """An inotify event with the subscription that told of it."""

    event: Happening
    subscription: str


class System(msgspec.Struct, frozen=True):
    """What the channel says of itself."""

    type: str


def tail(subscription: str) -> str:
    """What identifies a subscription within its channel.

    Scheme and host of the URLs inside events are those of whoever made the channel, and ids are base64 in
    either alphabet, percent-encoded or not: only the decoded end may be compared, and nothing rebuilt.

    >>> tail("http://a/api/v1/events/channels/X/subscriptions/inotify/A%2FB+")
    'inotify/A/B+'
    """
    return unquote(subscription.partition("/subscriptions/")[2])


def join(directory: str, name: str) -> str:
    """The path of a directory's child.

    >>> join("/", "a"), join("/a", "b")
    ('/a', '/a/b')
    """
    return f"{directory.rstrip('/')}/{name}"


def split(path: str) -> tuple[str, str]:
    """A path's directory, and its name in it.

    >>> split("/a/b"), split("/a")
    (('/a', 'b'), ('/', 'a'))
    """
    directory, _, name = path.rpartition("/")
    return directory or "/", name


def is_below(path: str, directory: str) -> bool:
    """Whether the path is the directory or something in it.

    >>> is_below("/a/b", "/a"), is_below("/ab", "/a"), is_below("/a", "/a"), is_below("/x", "/")
    (True, False, True, True)
    """
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")
