"""Removes every trace of one run: processes, mounts, network devices, cgroups, files.

It needs nothing but the run's folder, so that it also works for a run that was killed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers import polling

CGROUPS = Path("/sys/fs/cgroup")
SECONDS = 20.0


def bridge_name(path: Path) -> str:
    """The run's network bridge; an interface name has at most 15 letters."""
    return f"dcn-{path.name}"


def network_name(path: Path) -> str:
    """The run's CNI network."""
    return f"dcnios-{path.name}"


def memory_directory(path: Path) -> Path:
    """A folder in memory for data that is synced often, or one on disk where there is no such thing."""
    shared = Path("/dev/shm")
    return shared / f"dcnios-testbed-{path.name}" if os.access(shared, os.W_OK) else path / "memory"


def sweep(path: Path) -> None:
    """Removes the run with this folder; what is gone already is no error."""
    _kill_and_wait(path)
    _remove_shim_sockets(path)
    _unmount(path)
    _remove_network(path)
    _remove_cgroups(path)
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(path):
            link.unlink()
    shutil.rmtree(memory_directory(path), ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)
    path.with_suffix(".lock").unlink(missing_ok=True)


def _kill_and_wait(path: Path) -> None:
    """Servers first, so that no kubelet starts anew what we end after it."""

    def none_left() -> bool:
        left = [*_servers(path), *_shims(path), *_contained(path)]
        for pid in left:
            _kill(pid)
        return not left

    for pid in _servers(path):
        _kill(pid)
    polling.until(none_left, f"the end of the processes of {path}", SECONDS)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _servers(path: Path) -> Iterator[int]:
    """Processes of pid files. The number may be somebody else's by now: ours work in their own folder."""
    for file in path.glob("*/pid"):
        try:
            pid = int(file.read_text())
            if Path(f"/proc/{pid}/cwd").readlink() == file.parent and not _zombie(pid):
                yield pid
        except (OSError, ValueError):
            continue


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _shims(path: Path) -> Iterator[int]:
    """Shims are children of nobody; they are known by the socket of the containerd that they report to."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "-address" in words and words[words.index("-address") + 1].startswith(f"{path}/"):
            yield int(process.name)


def _bundles(path: Path) -> Iterator[Path]:
    """What containerd keeps of each container, in folders that have the containers' names."""
    return path.glob("*/state/io.containerd.runtime.v2.task/*/*")


def _cgroups(path: Path) -> Iterator[Path]:
    """The containers' cgroups, deepest first, in every hierarchy there is."""
    for bundle in _bundles(path):
        name = f"{bundle.parent.name}/{bundle.name}"
        for top in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")):
            yield from (Path(folder) for folder, _, _ in os.walk(top, topdown=False))


def _contained(path: Path) -> Iterator[int]:
    for group in _cgroups(path):
        try:
            yield from (int(pid) for pid in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue


def _remove_shim_sockets(path: Path) -> None:
    """A killed shim leaves its socket, which containerd does not put under our folder."""
    for bundle in _bundles(path):
        try:
            address = json.loads((bundle / "bootstrap.json").read_text())["address"]
        except (OSError, ValueError, KeyError):
            continue
        Path(str(address).removeprefix("unix://")).unlink(missing_ok=True)


def _unmount(path: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{path}/")), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", point.encode().decode("unicode_escape")], check=False)


def _remove_network(path: Path) -> None:
    if Path("/sys/class/net", bridge_name(path)).exists():
        subprocess.run(["ip", "link", "delete", bridge_name(path)], check=False)
    for result in Path("/var/lib/cni/results").glob(f"{network_name(path)}-*"):
        result.unlink(missing_ok=True)


def _remove_cgroups(path: Path) -> None:
    parents: set[Path] = set()

    def removed() -> bool:
        for group in _cgroups(path):
            parents.add(group.parent)
            group.rmdir()
        return True

    polling.until(removed, f"the end of the cgroups of {path}", SECONDS)
    for parent in parents:
        with contextlib.suppress(OSError):  # other runs share it
            parent.rmdir()
