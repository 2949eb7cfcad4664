"""Looks whether a ``directory`` source could work."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcnios_daemon.sources.directory.settings import DirectorySettings


async def check(
    *,
    name: str,
    settings: DirectorySettings,
    instance: str,  # noqa: ARG001 - all kinds are asked alike
    targets: Mapping[str, str],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    return await asyncio.to_thread(_look, name, settings, targets)


def _unfit(folder: Path, path: Path, place: str) -> str | None:
    """Why files cannot be moved there."""
    there = folder.absolute()
    home = there if there.is_dir() else there.parent
    if not os.access(home, os.W_OK | os.X_OK):
        return f"files cannot be moved to {there}: create it, give the right to write, or correct {place}"
    if path.exists() and not os.access(path, os.W_OK | os.X_OK):
        return f"files cannot be moved away from {path}: give the right to write, or leave out {place}"
    if path.exists() and home.stat().st_dev != path.stat().st_dev:
        return f"{there} is on another file system than {path}: correct {place}"
    return None


def _look(name: str, settings: DirectorySettings, targets: Mapping[str, str]) -> Sequence[str]:
    path, place = settings.path.absolute(), f"sources.{name}.path"
    try:
        with os.scandir(path):
            pass
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            return [f"there is no directory {path}, and it cannot be made: create it, or correct {place}"]
    except NotADirectoryError:
        return [f"{path} is no directory: correct {place}"]
    except OSError as error:
        return [f"the directory {path} cannot be read: {error.strerror}"]
    for folder in settings.processed.folders if settings.processed else ():
        if trouble := _unfit(folder, path, f"sources.{name}.processed"):
            return [trouble]
    if targets and path.exists() and not os.access(path, os.W_OK | os.X_OK):
        return [f"the directory {path} cannot be written to, as {next(iter(targets))} wants"]
    return []
