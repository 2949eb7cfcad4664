"""Programs from Debian packages, unpacked into the cache instead of installed.

Installing `etcd-server` would start its service and leave the machine changed; unpacking needs no root.
"""

import re
import shutil
from pathlib import Path

from tests.servers.cache import Cache
from tests.servers.commands import CommandError, MissingPartError, need_root, run, tool


def _download(package: str, directory: Path) -> Path:
    tool("apt-get", "a Debian system")
    try:
        run(["apt-get", "download", package], cwd=directory)
    except CommandError:
        need_root(f"apt-get update, to find the package {package}")
        run(["apt-get", "update"])
        run(["apt-get", "download", package], cwd=directory)
    return next(directory.glob("*.deb"))


def unpacked(cache: Cache, package: str) -> Path:
    """The root of a package's files."""

    def build(target: Path) -> None:
        archive = _download(package, target)
        run([tool("dpkg-deb", "a Debian system"), "-x", str(archive), str(target)])
        archive.unlink()

    return cache.entry("deb", re.sub(r"[^a-z0-9.-]", "_", package), build)


def program(cache: Cache, name: str, package: str) -> Path:
    """A program: the installed one, or else the one in its package."""
    installed = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if installed:
        return Path(installed)
    root = unpacked(cache, package)
    for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
        if (root / folder / name).is_file():
            return root / folder / name
    raise MissingPartError(f"{name} (not in the Debian package {package})")


def cni_plugins(cache: Cache) -> Path:
    """The folder of the CNI plugins."""
    installed = Path("/usr/lib/cni")
    if (installed / "bridge").is_file() and (installed / "host-local").is_file():
        return installed
    return unpacked(cache, "containernetworking-plugins") / "usr/lib/cni"
