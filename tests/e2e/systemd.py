"""A real systemd beside the machine's own, with our unit installed as deploy/systemd/README.md says."""

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.servers import polling
from tests.servers.cache import Cache
from tests.servers.commands import MissingPartError, bound, need_root, run, tool
from tests.servers.workspace import REPOSITORY

UNIT = REPOSITORY / "deploy" / "systemd" / "dcnios-daemon.service"
SETTINGS = UNIT.with_name("daemon.yaml")
NAME = UNIT.name
_PYTHON = "/usr/bin/python3"
"""The system's: a user without a home must be able to run it."""
_TARGETS = ("network-online.target", "sysinit.target", "basic.target", "shutdown.target", "multi-user.target")
_MAKE = """
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/opt,upperdir=/mnt/upper,workdir=/mnt/work /opt
mkdir -p /opt/dcnios
mount --bind "$1" /opt/dcnios
"$2" -m venv /opt/dcnios
shift 2
/opt/dcnios/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
/opt/dcnios/bin/python -m pip install --disable-pip-version-check "$@"
"""


def _environment() -> Path:
    """The daemon's dependencies and what builds it, made at /opt/dcnios: its programs know that path."""
    build: list[str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    lock = (REPOSITORY / "requirements.lock").read_bytes()
    key = hashlib.sha256(b"\0".join([lock, repr(build).encode(), _MAKE.encode()])).hexdigest()[:16]

    def make(target: Path) -> None:
        unshare = tool("unshare", "util-linux")
        run([unshare, "--mount", "bash", "-c", _MAKE, "bash", str(target), _PYTHON, *build], cwd=REPOSITORY)

    return Cache().entry("service-environment", key, make)


class Systemd:
    """Starts with the unit's service.

    Args:
        folder: For its files.
        settings: Keys of the unit that the test needs otherwise, as in a drop-in.
        files: What else there is in /etc/dcnios, readable by root only.
    """

    def __init__(self, folder: Path, *, settings: str, files: Mapping[str, str]) -> None:
        need_root("a systemd of our own needs namespaces")
        for path in ("/usr/lib/systemd/systemd", _PYTHON):
            if not Path(path).exists():
                raise MissingPartError(f"systemd and the system's Python ({path} is not there)")
        self._folder = folder
        units = folder / "units"
        (units / f"{NAME}.d").mkdir(parents=True)
        (units / NAME).write_text(UNIT.read_text())
        (units / f"{NAME}.d" / "test.conf").write_text(f"[Service]\n{settings}\n")
        for target in _TARGETS:
            (units / target).write_text("[Unit]\nDefaultDependencies=no\n")
        (units / "test.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={NAME}\n")
        etc = folder / "etc" / "dcnios"
        etc.mkdir(parents=True)
        (etc / "daemon.yaml").write_text(SETTINGS.read_text())
        for name, text in files.items():
            (etc / name).parent.mkdir(exist_ok=True)
            (etc / name).touch(0o600)
            (etc / name).write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("systemd.sh")
        arguments = [str(self._folder), str(_environment()), str(self._folder / "units")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                bound([str(script), *arguments]),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        polling.until(lambda: self.show("LoadState") == "loaded", "systemd", 60)
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        if (first := self._first()) is not None:
            os.kill(first, 9)
        process.wait(30)

    def _first(self) -> int | None:
        """Our systemd's number on this machine, once it is systemd."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"systemd ended:\n{(self._folder / 'log').read_text()}")
        number: int | None = self._process.pid
        while number is not None:
            if Path(f"/proc/{number}/comm").read_text().strip() == "systemd":
                return number
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
            number = int(children[0]) if len(children) == 1 else None
        return None

    def systemctl(self, *arguments: str) -> str:
        """Runs systemctl there. Returns what it wrote; empty before systemd is there."""
        first = self._first()
        if first is None:
            return ""
        enter = [tool("nsenter", "util-linux"), "--target", str(first), "--mount", "--pid", "--"]
        asked = [*enter, "env", "SYSTEMD_IGNORE_CHROOT=1", "systemctl", "--no-pager", *arguments]
        return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout

    def show(self, key: str) -> str:
        """A property of the service."""
        return self.systemctl("show", NAME, "--property", key, "--value").strip()

    def path(self, inside: str) -> Path:
        """Where a path of its world is in ours."""
        return Path(f"/proc/{self._first()}/root{inside}")

    def main(self) -> int:
        """The daemon's number on this machine."""
        inside = int(self.show("MainPID"))
        first = self._first()
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                same = status.with_name("ns").joinpath("pid_for_children").readlink()
                ours = Path(f"/proc/{first}/ns/pid_for_children").readlink()
            except OSError:
                continue
            if same == ours and lines["NSpid"].split()[-1] == str(inside):
                return int(status.parent.name)
        raise AssertionError(f"no process {inside} in our systemd")
