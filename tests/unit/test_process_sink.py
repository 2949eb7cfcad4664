"""Runs as processes: what they see, how they end, and what is left behind."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import ConfigError, OrderRefused, SinkUnavailable
from dcnios_daemon.core.ports import Failure, State
from dcnios_daemon.sinks.process import ProcessRun
from tests.unit.process_rig import Paper, in_flight, make_sink, order, served

_DAEMON = """
import asyncio, pathlib, sys
from tests.unit.process_rig import make_sink, order, served

async def main(state, script):
    async with served(make_sink(pathlib.Path(state))) as bench:
        await bench.plan(script=script).submit(order())
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def _until(condition: Callable[[], bool], *, within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - processes and files send no events
            await asyncio.sleep(0.02)


async def test_a_file_goes_in_and_its_result_comes_out(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox/a b+c.txt").write_text("hello")
    script = 'tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"'
    async with served(make_sink(tmp_path)) as bench:
        outcome = await bench.run(
            order("a b+c.txt"),
            script=script,
            stage_in=True,
            stage_out={"out": {"to": f"file:{tmp_path}/outbox/", "using": "drop"}},
        )
    assert outcome.succeeded, outcome
    assert (outcome.exit_code, outcome.reason, outcome.node) == (0, "Completed", "here")
    assert (tmp_path / "outbox/a b+c.txt").read_text() == "HELLO"
    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["a b+c.txt"]


async def test_the_folder_of_a_settled_order_is_gone(tmp_path: Path) -> None:
    async with served(make_sink(tmp_path)) as bench:
        await bench.run(order(), script="mkdir -p deep/er && chmod 0 deep")
        await _until(lambda: not any((tmp_path / "process").iterdir()))


async def test_a_run_sees_the_contract_and_nothing_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCNIOS_SOURCES__UPLOADS__SECRET_KEY", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    raw = bytes(range(256))
    one = order("folder/x y.txt", payload=raw)
    script = f'env | sort > {tmp_path}/env; cat "$DCNIOS_EVENT_FILE" > {tmp_path}/event; pwd > {tmp_path}/cwd'
    async with served(make_sink(tmp_path)) as bench:
        assert (
            await bench.run(one, script=script, env={"WHO": "{{ event.name }}", "DCNIOS_KEY": "mine"})
        ).succeeded
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert seen["WHO"] == "x y.txt"
    assert seen["DCNIOS_KEY"] == one.key
    assert seen["STORAGE_OBJECT_KEY"] == "folder/x y.txt"
    assert seen["EVENT_TIME"] == "1970-01-01T00:00:00.000Z"
    assert "hush" not in (tmp_path / "env").read_text()
    assert "EVENT" not in seen
    assert (tmp_path / "event").read_bytes() == raw
    assert Path(seen["TMP_OUTPUT_DIR"]).parent == Path((tmp_path / "cwd").read_text().strip())


async def test_the_exit_code_and_the_last_words_are_kept_and_nothing_is_staged_out(tmp_path: Path) -> None:
    script = 'touch "$TMP_OUTPUT_DIR/half"; seq 5000; echo bad >&2; exit 7'
    async with served(make_sink(tmp_path)) as bench:
        outcome = await bench.run(
            order(), script=script, stage_out={"out": {"to": f"file:{tmp_path}/outbox/", "using": "drop"}}
        )
    assert (outcome.failure, outcome.exit_code) == (Failure.SCRIPT, 7)
    assert outcome.log_tail.endswith("4999\n5000\nbad\n")
    assert len(outcome.log_tail) == 2048
    assert not (tmp_path / "outbox").exists()


@pytest.mark.parametrize(("script", "code"), [("kill -9 $$", 137), ("no-such-program", 127)])
async def test_other_ends_are_told_as_a_shell_tells_them(tmp_path: Path, script: str, code: int) -> None:
    async with served(make_sink(tmp_path)) as bench:
        outcome = await bench.run(order(), script=script)
    assert (outcome.failure, outcome.exit_code) == (Failure.SCRIPT, code)


async def test_a_command_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    async with served(make_sink(tmp_path)) as bench:
        args = ("-c", 'printf "%s|" "$@" > "$0"', f"{tmp_path}/args", "a b", "$HOME", "", "*")
        assert (await bench.run(order(), command=("/bin/sh",), args=args)).succeeded
    assert (tmp_path / "args").read_text() == "a b|$HOME||*|"


async def test_a_run_that_waits_for_all_its_children_ends(tmp_path: Path) -> None:
    program = "import os\ntry:\n  while True: os.wait()\nexcept ChildProcessError: pass"
    async with served(make_sink(tmp_path)) as bench:
        assert (await bench.run(order(), command=(sys.executable, "-c", program))).succeeded


async def test_the_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    script = f'sleep 600 & echo $! > {tmp_path}/pid; echo waiting; trap "" TERM; wait; sleep 600'
    async with served(make_sink(tmp_path, grace=0.2)) as bench:
        outcome = await bench.run(order(), script=script, deadline=1.0)
    assert (outcome.failure, outcome.reason) == (Failure.DEADLINE, "DeadlineExceeded")
    assert outcome.log_tail == "waiting\n"
    await _until(lambda: not _alive(int((tmp_path / "pid").read_text())))


async def test_what_a_run_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    began = time.monotonic()
    async with served(make_sink(tmp_path)) as bench:
        assert (await bench.run(order(), script=f"sleep 600 & echo $! > {tmp_path}/pid")).succeeded
    assert time.monotonic() - began < 5
    await _until(lambda: not _alive(int((tmp_path / "pid").read_text())))


async def test_submitting_twice_runs_once(tmp_path: Path) -> None:
    async with served(make_sink(tmp_path)) as bench:
        plan = bench.plan(script=f"echo once >> {tmp_path}/runs; sleep 0.2")
        await asyncio.gather(plan.submit(order()), plan.submit(order()))
        await plan.submit(order())
        await bench.desk.outcome(order().name)
    assert (tmp_path / "runs").read_text() == "once\n"


async def test_submit_returns_before_the_run_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    async with served(make_sink(tmp_path)) as bench:
        await bench.plan(script=f"cat {tmp_path}/go").submit(order())
        assert not bench.desk.outcomes
        await asyncio.to_thread((tmp_path / "go").write_text, "now")
        assert (await bench.desk.outcome(order().name)).succeeded


async def test_nothing_is_taken_while_not_served(tmp_path: Path) -> None:
    plan = make_sink(tmp_path).plan("copy", ProcessRun(script="true"))
    with pytest.raises(SinkUnavailable, match="not being served"):
        await plan.submit(order())


async def test_a_missing_input_is_refused_and_the_script_does_not_run(tmp_path: Path) -> None:
    async with served(make_sink(tmp_path)) as bench:
        outcome = await bench.run(order("gone.txt"), script=f"touch {tmp_path}/ran", stage_in=True)
    assert (outcome.failure, outcome.reason) == (Failure.REFUSED, "StageInFailed")
    assert "gone.txt" in outcome.message
    assert not (tmp_path / "ran").exists()


async def test_a_stopping_daemon_lets_runs_end_and_finds_them_interrupted_next_time(tmp_path: Path) -> None:
    one = order()
    script = (
        f'trap "echo told > {tmp_path}/told; exit 0" TERM; echo up > {tmp_path}/up; '
        "while :; do sleep 0.05; done"
    )
    async with served(make_sink(tmp_path)) as bench:
        await bench.plan(script=script).submit(one)
        await _until((tmp_path / "up").exists)
    assert (tmp_path / "told").exists()
    assert not bench.desk.outcomes
    async with served(make_sink(tmp_path), Paper([in_flight(one, State.RUNNING)])) as bench:
        outcome = bench.desk.outcomes[one.name]
    assert (outcome.failure, outcome.reason) == (Failure.INFRASTRUCTURE, "Interrupted")


async def test_a_result_that_was_not_settled_is_reported_by_the_next_life(tmp_path: Path) -> None:
    class Lost(Paper):
        async def report(self, outcome: object) -> None:
            await asyncio.Event().wait()

    one = order()
    async with served(make_sink(tmp_path), Lost()) as bench:
        await bench.plan(script="exit 3").submit(one)
        await _until((tmp_path / "process" / one.name / "result.json").exists)
    async with served(make_sink(tmp_path)) as bench:
        assert bench.desk.outcomes[one.name].exit_code == 3
        await bench.plan(script="exit 0").submit(one)


async def test_an_order_that_had_not_begun_is_given_back(tmp_path: Path) -> None:
    one, two = order("one"), order("two")
    sink = make_sink(tmp_path)
    await asyncio.to_thread(sink.folder(one.name).prepare, b"{}", "true")
    desk = Paper([in_flight(one, State.SUBMITTING), in_flight(two, State.SUBMITTING)])
    async with served(sink, desk) as bench:
        assert sorted(bench.desk.retracted) == sorted([one.name, two.name])
        assert not bench.desk.outcomes
        assert (await bench.run(one, script="true")).succeeded


async def test_a_running_order_without_a_trace_is_unknown(tmp_path: Path) -> None:
    one = order()
    async with served(make_sink(tmp_path), Paper([in_flight(one, State.RUNNING)])) as bench:
        assert bench.desk.outcomes[one.name].failure is Failure.UNKNOWN


async def test_a_daemon_that_is_killed_takes_its_runs_along(tmp_path: Path) -> None:
    """The whole tree goes at once, and the next life reports the order as interrupted."""
    one = order()
    script = f"sleep 600 & echo $! $$ > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pids; wait"
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _DAEMON,
        str(tmp_path),
        script,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await _until((tmp_path / "pids").exists, within=30)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(_alive(pid) for pid in pids)
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    await _until(lambda: not any(_alive(pid) for pid in pids))
    async with served(make_sink(tmp_path), Paper([in_flight(one, State.RUNNING)])) as bench:
        assert bench.desk.outcomes[one.name].reason == "Interrupted"


async def test_a_leftover_that_lost_its_watcher_is_killed_by_the_next_life(tmp_path: Path) -> None:
    one = order()
    sink = make_sink(tmp_path)
    folder = sink.folder(one.name)
    await asyncio.to_thread(folder.prepare, b"{}", None)
    await asyncio.to_thread(folder.begin)
    stray = await asyncio.create_subprocess_exec(
        "sleep", "600", env={"TMP_OUTPUT_DIR": f"{folder.work}/output"}, start_new_session=True
    )
    async with served(sink, Paper([in_flight(one, State.RUNNING)])) as bench:
        assert bench.desk.outcomes[one.name].reason == "Interrupted"
    assert await stray.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "give script, script_file or command"),
        ({"args": ("x",)}, "give script, script_file or command"),
        ({"script": "true", "image": "debian"}, "image"),
        ({"script": "true", "resources": {"gpu": 1}}, "in_flight"),
        ({"script": "true", "command": ("x",)}, "give one of"),
    ],
)
def test_settings_that_cannot_work_are_told(run: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProcessRun.model_validate(run)


def test_a_plan_that_cannot_work_is_told(tmp_path: Path) -> None:
    sink = make_sink(tmp_path)
    with pytest.raises(ConfigError, match="nowhere"):
        sink.plan(
            "copy",
            ProcessRun.model_validate(
                {"script": "true", "stage_out": {"a": {"to": "x", "using": "nowhere"}}}
            ),
        )
    keyed = {"to": "s3://b/", "using": "drop", "credentials": "secret", "secret": "keys"}
    with pytest.raises(ConfigError, match=r"copy\.run\.stage_out\.a\.credentials: secret is for job"):
        sink.plan("copy", ProcessRun.model_validate({"script": "true", "stage_out": {"a": keyed}}))
    with pytest.raises(ConfigError, match="script_file"):
        sink.plan("copy", ProcessRun(script_file=tmp_path / "none.sh"))


async def test_an_order_whose_template_lacks_its_field_is_refused(tmp_path: Path) -> None:
    async with served(make_sink(tmp_path)) as bench:
        with pytest.raises(OrderRefused, match="nothing"):
            await bench.plan(script="true", env={"A": "{{ event.nothing }}"}).submit(order())


async def test_render_shows_what_would_run(tmp_path: Path) -> None:
    plan = make_sink(tmp_path).plan("copy", ProcessRun(command=("echo", "hi")))
    shown = await plan.render(order())
    assert shown["command"] == ["echo", "hi"]
    assert shown["environment"]["DCNIOS_ROUTE"] == "copy"
