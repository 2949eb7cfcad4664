"""The commands that need no journal, as someone at a terminal meets them."""
# ruff: noqa: E501 - messages stand whole

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dcnios_daemon import app, cli
from dcnios_daemon.cli import queue_commands
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.core.errors import JournalCorrupt, OrderRefused
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import State
from dcnios_daemon.staging import run as staging

GOOD = """
sources: {a: {kind: cloudevents, token: hush}, idle: {kind: cloudevents}}
routes: {look: {from: [a], run: {kind: job, image: x}}}
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD)


def dcnios(*arguments: str, stdin: str | bytes = "", **environ: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin, env=environ)


def test_every_command_is_there_and_explains_itself() -> None:
    shown = dcnios("--help").stdout
    for command in ("run", "check", "render", "queue", "services", "stage", "schema"):
        assert f"\n  {command} " in shown
        assert dcnios(command, "--help").exit_code == 0
    for command in ("stats", "list", "show", "dead", "replay", "drop", "fsck"):
        assert f"\n  {command} " in dcnios("queue", "--help").stdout
        assert "--config" in dcnios("queue", command, "-h").stdout
    for command in ("list", "render", "apply", "delete", "logs", "token", "scale", "run"):
        assert f"\n  {command} " in dcnios("services", "--help").stdout
        assert "--config" in dcnios("services", command, "-h").stdout


def test_help_costs_nothing_that_only_a_command_needs() -> None:
    code = (
        "import sys\nfrom dcnios_daemon import cli\n"
        "heavy = {'pydantic', 'aiohttp', 'yaml', 'jinja2', 'msgspec', 'sqlite3', 'prometheus_client', 'structlog'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_states_that_can_be_asked_for_are_those_that_there_are() -> None:
    assert tuple(State) == queue_commands._STATES


def test_check_prints_what_is_in_force_and_says_fine() -> None:
    result = dcnios("check", "--config", "good.yaml")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["sources"]["a"] == {
        "kind": "cloudevents",
        "token": "**********",
        "allowed_origins": ["*"],
        "retired": False,
    }
    assert result.stderr == "sources.idle: no route takes its events\n2 sources, 1 route: fine\n"


def test_check_prints_json() -> None:
    result = dcnios("check", "--config", "good.yaml", "--json")
    shown = json.loads(result.stdout)
    assert shown["settings"]["routes"]["look"]["run"]["image"] == "x"
    assert (shown["summary"], shown["notes"]) == (
        "2 sources, 1 route",
        ["sources.idle: no route takes its events"],
    )


def test_check_can_be_quiet() -> None:
    result = dcnios("check", "-q", "--config", "good.yaml")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_wrong_configuration_is_exit_2_and_a_line_for_each_mistake() -> None:
    Path("bad.yaml").write_text("limits: {rate: x}\nsourcez: {}\n")
    for command in (["check"], ["run"], ["queue", "stats"], ["queue", "fsck"]):
        result = dcnios(*command, "--config", "bad.yaml")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines() == [
            "bad.yaml:1: limits.rate: 'x' is no rate above zero: write 20/s, 90/m or 1000/h",
            "bad.yaml:2: sourcez: no such key: did you mean 'sources'?",
        ]


def test_a_run_that_cannot_be_made_into_orders_is_a_mistake_with_its_place() -> None:
    Path("bad.yaml").write_text(
        """
sources: {a: {kind: directory, path: .}}
routes:
  staged:
    from: [a]
    run: {kind: job, image: x, stage_in: true}
  clash:
    from: [a]
    run:
      kind: job
      image: x
      script_file: nowhere.sh
limits: {rate: x}
"""
    )
    result = dcnios("check", "--config", "bad.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "bad.yaml:6: routes.staged.run: staging needs kubernetes.staging_image, the image of this program",
        "bad.yaml:12: routes.clash.run.script_file: nowhere.sh cannot be read: No such file or directory",
        "bad.yaml:13: limits.rate: 'x' is no rate above zero: write 20/s, 90/m or 1000/h",
    ]


def test_secret_files_are_wanted_unless_said_otherwise() -> None:
    Path("f.yaml").write_text("sources: {a: {kind: cloudevents, token_file: /run/secrets/x}}")
    result = dcnios("check", "-q", "--config", "f.yaml")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "f.yaml:1: sources.a.token_file: /run/secrets/x cannot be read: No such file or directory\n"
    )
    assert dcnios("check", "-q", "--config", "f.yaml", "--without-files").exit_code == 0


def test_the_environment_alone_will_do() -> None:
    result = dcnios("check", "--json", DCNIOS_SOURCES__A__KIND="cloudevents")
    assert json.loads(result.stdout)["summary"] == "1 source, 0 routes"
    result = dcnios("check", DCNIOS_CONFIG="nowhere.yaml")
    assert (result.exit_code, result.stderr) == (
        2,
        "nowhere.yaml: cannot be read: No such file or directory\n",
    )


def test_schema_prints_a_schema() -> None:
    shown = json.loads(dcnios("schema").stdout)
    assert shown["$schema"].startswith("https://json-schema.org/")
    assert "JobRun" in shown["$defs"]


@pytest.mark.parametrize(
    "wrong", [["no-such-command"], ["check", "--no-such-option"], ["queue", "drop"], ["render", "look"]]
)
def test_wrong_usage_is_exit_2(wrong: list[str]) -> None:
    assert dcnios(*wrong).exit_code == 2


# --- run ----------------------------------------------------------------------------------------------


def run_ends_with(monkeypatch: pytest.MonkeyPatch, end: BaseException | int) -> Result:
    async def run(settings: DaemonSettings, *, reread: Callable[[], DaemonSettings]) -> int:
        assert "look" in settings.routes
        assert await asyncio.to_thread(reread) == settings
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(app, "run", run)
    return dcnios("run", "--config", "good.yaml")


@pytest.mark.parametrize("code", [0, 1])
def test_run_ends_with_the_daemons_code(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert run_ends_with(monkeypatch, code).exit_code == code


def test_what_the_daemon_fails_of_is_said_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_ends_with(monkeypatch, JournalCorrupt("state/journal.db is no journal"))
    assert (result.exit_code, result.stderr) == (1, "dcnios: state/journal.db is no journal\n")


def test_several_failures_at_once_are_all_said(monkeypatch: pytest.MonkeyPatch) -> None:
    group = ExceptionGroup("tasks", [OSError("disk"), ExceptionGroup("more", [JournalCorrupt("journal")])])
    result = run_ends_with(monkeypatch, group)
    assert (result.exit_code, result.stderr) == (1, "dcnios: disk\ndcnios: journal\n")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bug = ExceptionGroup("tasks", [OSError("disk"), ZeroDivisionError()])
    assert run_ends_with(monkeypatch, with_bug).exception is with_bug


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_ends_with(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 1
    assert "Traceback" not in result.output


# --- render -------------------------------------------------------------------------------------------


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Event]]:
    calls: list[tuple[str, Event]] = []

    async def render(_settings: DaemonSettings, route: str, event: Event, *, fallback: bool) -> Any:
        assert not fallback
        calls.append((route, event))
        if event.subject == "refused":
            raise OrderRefused("the payload is too large")
        return {"kind": "Job", "data": event.data.decode(), "script": "a\nb\n"}

    monkeypatch.setattr(app, "render", render)
    return calls


def test_render_prints_what_would_be_submitted(rendered: list[tuple[str, Event]]) -> None:
    Path("event.json").write_text('{"subject": "inbox/ü.png", "data": {"a": 1}}')
    result = dcnios("render", "look", "event.json", "--config", "good.yaml")
    assert result.stdout == "kind: Job\ndata: '{\"a\":1}'\nscript: |\n  a\n  b\n"
    [(route, event)] = rendered
    assert (route, event.source, event.kind, event.subject) == ("look", "a", "cloudevents", "inbox/ü.png")


def test_render_reads_standard_input_and_prints_json(rendered: list[tuple[str, Event]]) -> None:
    result = dcnios("render", "look", "-", "--json", "--config", "good.yaml", stdin='{"data": "x"}')
    assert json.loads(result.stdout) == {"kind": "Job", "data": "x", "script": "a\nb\n"}


@pytest.mark.parametrize(
    ("route", "stdin", "code", "said"),
    [
        ("lok", "{}", 2, "'lok' is no route: did you mean 'look'?"),
        ("look", '{"subjectt": 1, "tme": 2}', 2, "-: subjectt: an event has no such field\n-: tme: an event has no such field\n"),
        ("look", "{", 2, "-: not JSON: "),
        ("look", '{"subject": "refused"}', 1, "dcnios: the payload is too large\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_rendered(rendered: object, route: str, stdin: str, code: int, said: str) -> None:
    result = dcnios("render", route, "-", "--config", "good.yaml", stdin=stdin)
    assert result.exit_code == code
    assert said in result.stderr


# --- stage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "function"), [("in", "main_in"), ("out", "main_out")])
def test_stage_hands_plan_and_folder_on(
    monkeypatch: pytest.MonkeyPatch, direction: str, function: str
) -> None:
    calls: list[tuple[Path, Path]] = []

    def stage(plan: Path, work_dir: Path) -> int:
        calls.append((plan, work_dir))
        return 75

    monkeypatch.setattr(staging, function, stage)
    assert dcnios("stage", direction, "--plan", "/p.json", "--work-dir", "/w").exit_code == 75
    assert calls == [(Path("/p.json"), Path("/w"))]
