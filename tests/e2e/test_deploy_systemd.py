"""deploy/systemd: the unit is sound, what it starts speaks systemd's language, and a real systemd runs it."""

import configparser
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.config.load import load
from dcnios_daemon.core.units import duration
from tests.daemon import free_port
from tests.e2e.systemd import NAME, SETTINGS, UNIT, Systemd
from tests.servers import polling
from tests.servers.commands import tool

PROGRAM = "/opt/dcnios/bin/dcnios"
NEWER_THAN_DEBIAN_12 = ("RestartSteps", "RestartMaxDelaySec")
EXPOSURE = 15
"""Tenths, of 100: what systemd calls OK ends at 40."""


class _Many(dict[str, Any]):
    """Keys of a unit may stand more than once; the last counts here."""


def _service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, dict_type=_Many)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser["Service"]


# --- the unit as a text -----------------------------------------------------------------------------------


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = tool("systemd-analyze", "systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    installed = tmp_path / NAME
    installed.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    said = _analyze("verify", "--man=no", str(installed)).stderr.splitlines()
    ours = [line for line in said if NAME in line]
    assert not [line for line in ours if not any(f"'{key}'" in line for key in NEWER_THAN_DEBIAN_12)], said


def test_it_can_do_little_harm() -> None:
    checked = _analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT))
    assert checked.returncode == 0, checked.stdout[-300:]


def test_systemd_waits_longer_than_the_daemon() -> None:
    grace = load(SETTINGS, environ={}).daemon.shutdown_grace
    assert duration(_service()["TimeoutStopSec"]) > grace


# --- what it starts, with a supervisor of ours --------------------------------------------------------------


@contextmanager
def _supervised(folder: Path, *, watchdog: float) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The unit's own commands and variables, and the socket that they report to."""
    service, state = _service(), folder / "state"
    state.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(folder / "notify"))
        supervisor.settimeout(30)
        (folder / "dcnios").mkdir()
        (folder / "dcnios" / "daemon.yaml").write_text(SETTINGS.read_text())
        given = dict(
            item.split("=", 1) for item in shlex.split(service["Environment"].replace("%E", str(folder)))
        )
        env = {
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(state),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(int(watchdog * 1e6)),
            "DCNIOS_DAEMON__HTTP__PORT": str(free_port()),
            **given,
        }

        def command(key: str) -> list[str]:
            program, *arguments = shlex.split(service[key])
            assert program == PROGRAM
            return [sys.executable, "-m", "dcnios_daemon", *arguments]

        subprocess.run(command("ExecStartPre"), cwd=state, env=env, check=True, timeout=60)
        with subprocess.Popen(command("ExecStart"), cwd=state, env=env) as process:
            try:
                yield process, supervisor
            finally:
                process.kill()


def _until_said(supervisor: socket.socket, what: str) -> list[str]:
    """All that was said up to it."""
    said: list[str] = []
    while what not in said:
        said += supervisor.recv(4096).decode().splitlines()
    return said


def test_it_reports_its_start_its_life_and_its_end(tmp_path: Path) -> None:
    with _supervised(tmp_path, watchdog=0.2) as (process, supervisor):
        assert "STOPPING=1" not in _until_said(supervisor, "READY=1")
        assert (tmp_path / "state" / "journal.db").exists()
        for _ in range(10):
            assert _until_said(supervisor, "WATCHDOG=1") == ["WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        assert "READY=1" not in _until_said(supervisor, "STOPPING=1")
        assert process.wait(30) == 0


def test_a_wrong_file_never_starts(tmp_path: Path) -> None:
    wrong = tmp_path / "daemon.yaml"
    wrong.write_text("sources: {drop: {kind: folder}}\n")
    check = [sys.executable, "-m", "dcnios_daemon", *shlex.split(_service()["ExecStartPre"])[1:]]
    env = {**os.environ, "DCNIOS_CONFIG": str(wrong)}
    answer = subprocess.run(check, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert "folder" in answer.stderr


# --- a real systemd ---------------------------------------------------------------------------------------


_DROP_IN = """
WatchdogSec=2s
StandardError=append:/run/daemon.log
LoadCredential=admin-token:/etc/dcnios/secrets/admin-token
Environment=DCNIOS_DAEMON__HTTP__ADMIN_TOKEN_FILE=%d/admin-token
"""


def _replay(port: int, token: str) -> int:
    """The status of the answer when an administrator asks for what is not there."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/dead/7/replay",
        method="POST",
        headers={"Authorization": f"Bearer {token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    with refusal.value as answer:
        return answer.code


def _succeeded(port: int) -> set[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/deliveries?state=succeeded") as answer:
        return {item["subject"] for item in json.load(answer)["deliveries"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_systemd_starts_watches_and_stops_it(tmp_path: Path) -> None:
    port = free_port()
    with Systemd(
        tmp_path,
        settings=_DROP_IN,
        files={"env": f"DCNIOS_DAEMON__HTTP__PORT={port}\n", "secrets/admin-token": "secret\n"},
    ) as systemd:

        def until_active(restarts: int) -> None:
            def state() -> bool:
                return (systemd.show("ActiveState"), systemd.show("NRestarts")) == ("active", str(restarts))

            try:
                polling.until(state, f"the service after {restarts} restarts", 60)
            except TimeoutError as error:
                log = systemd.path("/run/daemon.log")
                raise AssertionError(f"{systemd.systemctl('status', NAME)}\n{log.read_text()}") from error

        until_active(0)
        journal = systemd.path("/var/lib/dcnios/journal.db").stat()
        assert journal.st_uid not in {0, os.getuid()}
        assert oct(journal.st_mode)[-3:] == "600"

        assert (_replay(port, "wrong"), _replay(port, "secret")) == (401, 404)

        inbox = systemd.path("/var/lib/dcnios/inbox")
        (inbox / "one").write_text("1")
        polling.until(lambda: _succeeded(port) == {"one"}, "the first file", 30)

        os.kill(systemd.main(), signal.SIGKILL)
        until_active(1)
        assert _succeeded(port) == {"one"}

        os.kill(systemd.main(), signal.SIGSTOP)
        until_active(2)
        (inbox / "two").write_text("2")
        polling.until(lambda: _succeeded(port) == {"one", "two"}, "the second file", 30)

        systemd.systemctl("stop", NAME)
        ended = [systemd.show(key) for key in ("ActiveState", "Result", "ExecMainStatus")]
        assert ended == ["inactive", "success", "0"]
