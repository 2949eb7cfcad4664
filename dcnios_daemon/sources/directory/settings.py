"""What can be said of a directory source in the configuration."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.units import Duration


class Processed(Settings):
    """Where files go that are done with."""

    move_to: Path
    """A folder on the same file system, made if only its last part is missing. A file goes there once all its
    deliveries succeeded, below the folders that it was in, never over another: then ``.1`` follows its name.
    It may be inside the directory; what is in it is no event. A file that takes no route stays."""
    failed_to: Path | None = None
    """Likewise for files of which a delivery is dead or was dropped; by default they stay. A replay finds the
    file only where it was: move it back, which makes no new event, and replay within ten minutes."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.move_to,) if self.failed_to is None else (self.move_to, self.failed_to)


class DirectorySettings(Settings):
    """Files that appear in a directory."""

    path: Path
    """Made if only its last part is missing when the source runs for the first time."""
    pattern: Annotated[str, Field(min_length=1)] = "*"
    """Glob over the path below the directory; folders below are looked into if it holds a ``/``: ``**/*``.
    Names with a dot in front, and those of unfinished files (``.part``, ``.tmp``, ``~``), are passed over."""
    poll: Annotated[Duration, Field(gt=0)] = 1.0
    """Look this often. On this machine's own file systems the kernel tells of changes: then looks are made at
    once when it does, and else every 30 s (or every ``poll``, if that is longer). On network file systems
    nobody tells what other machines write."""
    quiet: Duration = 2.0
    """A file is complete once it was left alone for this long."""
    processed: Processed | None = None
    """Move files away once they are done with. By default they stay where they are."""

    @model_validator(mode="after")
    def _below(self) -> Self:
        if self.pattern.startswith("/"):
            raise ValueError("pattern is matched against the path below the directory: no / in front")
        if self.processed is not None and self.path.absolute() in map(Path.absolute, self.processed.folders):
            raise ValueError("processed files cannot go to the directory itself")
        return self
