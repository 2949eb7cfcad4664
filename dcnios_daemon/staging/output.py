"""What a run left in its output folder, in an order that is always the same."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dcnios_daemon.core.errors import StoreError


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One file to be staged out."""

    name: str
    """Relative to the output folder, with ``/`` between folders. May hold any bytes (surrogateescape)."""
    path: Path
    """Where its content is: of a link, the target."""
    size: int


def results(output: Path, *, allowed: tuple[Path, ...]) -> list[Result]:
    """All files below ``output``, sorted by name. A folder that is not there has none.

    A link is followed to a file in the allowed folders and nowhere else: a run must not be able to have the
    stager's own files published. Sockets and pipes hold no result and are passed over.

    Raises:
        StoreError: A link leads elsewhere, or a file cannot be read.
    """
    places = tuple(path.resolve() for path in (output, *allowed))
    try:
        found = sorted(_files(output), key=os.fsencode)
        return [result for name in found if (result := _result(output, name, places)) is not None]
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error


def _files(output: Path) -> Iterator[str]:
    def complain(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, subfolders, files in os.walk(output, onerror=complain):
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(folder, name), output)  # noqa: PTH118 - names may be any bytes


def _result(output: Path, name: str, places: tuple[Path, ...]) -> Result | None:
    path = output / name
    if path.is_symlink():
        path = path.resolve()
        if not any(path.is_relative_to(place) for place in places) or not path.is_file():
            raise StoreError(
                f"{name}: a link to {path}, which is no file among the run's own: not staged out"
            )
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return None
    return Result(name=name, path=path, size=status.st_size)
