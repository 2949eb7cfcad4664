"""`dcnios queue` on a real journal."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dcnios_daemon import app, cli
from dcnios_daemon.cli import queue_commands, selection
from dcnios_daemon.config.load import load
from dcnios_daemon.config.sample import event_from_json
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Dead, Failure, Journal, Outcome, State, Succeed

CONFIG = """
buffer: {path: j.db}
sources: {uploads: {kind: directory, path: in}}
routes: {gray: {from: [uploads], run: {kind: dry-run}}}
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    Path("f.yaml").write_text(CONFIG)


def queue(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["queue", *arguments, "--config", "f.yaml"])


def event(number: int, *, subject: str = "") -> Event:
    return Event(
        key=event_key("uploads", number),
        source="uploads",
        kind="minio",
        subject=subject or f"inbox/{number}.png",
        action=Action.CREATED,
        time=1_700_000_000.0,
        size=5,
        data=b'{"n": 1}',
    )


def fill(events: Sequence[Event], *, dead: int = 0, succeeded: int = 0) -> None:
    """Put events on route ``gray``; let the first ones die, the next ones succeed."""

    async def work(journal: Journal) -> None:
        await journal.append("uploads", [Admission(event=one, routes=("gray",)) for one in events], None)
        for number in range(dead + succeeded):
            [claim] = await journal.claim("gray", 1)
            await journal.started([claim.delivery])
            failed = number < dead
            outcome = Outcome(
                order=claim.order,
                failure=Failure.SCRIPT if failed else None,
                exit_code=3 if failed else 0,
                reason="Error" if failed else "Completed",
                log_tail="first line\nsecond \x1b[31mline\n" if failed else "",
                pod="gray-abc",
                node="node-1",
            )
            await journal.finish([claim.delivery], outcome, Dead() if failed else Succeed())

    settings = load(Path("f.yaml"), environ={})

    async def inside() -> None:
        async with app.journal(settings, shared=False) as journal:
            await work(journal)

    asyncio.run(inside())


def test_every_state_and_every_class_of_failure_can_be_asked_for() -> None:
    """They are written out in the commands, so that these start without the rest of the program."""
    assert tuple(State) == queue_commands._STATES
    assert tuple(Failure) == selection._FAILURES


def test_an_empty_journal_has_helpful_words() -> None:
    fill([])
    assert queue("stats").stdout == "0 events, 0 bytes held; 0 seen again and left out\n"
    assert queue("list").stdout == "the journal holds no deliveries\n"
    assert queue("list", "--state", "queued", "--route", "x").stdout == "nothing is queued on route x\n"
    assert queue("dead").stdout == "nothing is dead\n"
    assert queue("replay", "--all").stdout == "0 queued again\n"
    assert queue("fsck").stdout == "j.db: fine\n"


def test_no_journal_is_said_and_none_is_made() -> None:
    for command in (
        ["stats"],
        ["list"],
        ["dead"],
        ["show", "a"],
        ["replay", "1"],
        ["drop", "1", "--reason", "x"],
        ["pause", "gray"],
        ["resume", "gray"],
        ["fsck"],
    ):
        result = queue(*command)
        assert result.exit_code == 1
        assert "j.db" in result.stderr
        assert "Traceback" not in result.output
    assert not Path("j.db").exists()


def test_stats_count_by_route_and_state() -> None:
    fill([event(number) for number in range(4)], dead=1, succeeded=1)
    lines = queue("stats").stdout.splitlines()
    assert lines[0].startswith("3 events, ")
    assert "the oldest waits for " in lines[0]
    assert [line.split() for line in lines[2:]] == [
        ["ROUTE", "QUEUED", "SUCCEEDED", "DEAD"],
        ["gray", "2", "1", "1"],
    ]
    shown = json.loads(queue("stats", "--json").stdout)
    assert shown["events"] == 3
    assert shown["deliveries"]["gray"]["dead"] == 1


def test_list_shows_newest_first_aligned_and_tame() -> None:
    fill([event(1), event(2, subject="inbox/\x1b[2J\u202e名前 .png")])
    lines = queue("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATE", "ROUTE", "ATTEMPT", "AGE", "KEY", "SUBJECT", "NOTE"]
    assert r"inbox/\x1b[2J\u202e名前 .png" in lines[1]
    assert "inbox/1.png" in lines[2]
    assert lines[0].index("SUBJECT") == lines[1].index("inbox") == lines[2].index("inbox")


def test_list_can_be_narrowed_and_paged() -> None:
    fill([event(number) for number in range(7)], dead=2)
    assert len(json.loads(queue("list", "--json").stdout)) == 7
    assert len(json.loads(queue("list", "--json", "--state", "queued").stdout)) == 5
    assert len(json.loads(queue("list", "--json", "--route", "other").stdout)) == 0
    first = json.loads(queue("list", "--json", "--limit", "3").stdout)
    rest = json.loads(queue("list", "--json", "--after", str(first[-1]["id"])).stdout)
    assert [item["subject"] for item in first + rest] == [
        f"inbox/{number}.png" for number in reversed(range(7))
    ]


def test_dead_ones_are_listed_with_what_they_died_of() -> None:
    fill([event(number) for number in range(3)], dead=2)
    result = queue("dead")
    assert len(result.stdout.splitlines()) == 3
    assert "script: Error, exit code 3" in result.stdout
    assert "dcnios queue replay ID" in result.stderr


def test_show_tells_the_whole_story() -> None:
    fill([event(1)], dead=1)
    shown = queue("show", event(1).key[:8]).stdout
    for fact in (
        event(1).key,
        "uploads (minio)",
        "inbox/1.png",
        "2023-11-14T22:13:20.000Z",
        "8 bytes",
        "node-1",
    ):
        assert fact in shown
    assert shown.endswith("  | first line\n  | second \\x1b[31mline\n")


def test_show_gives_json_that_render_takes() -> None:
    fill([event(1)])
    shown = json.loads(queue("show", event(1).key, "--json").stdout)
    raw = json.dumps(shown["event"]).encode()
    assert event_from_json(raw, source="x", kind="x", now=0) == event(1)
    assert [delivery["state"] for delivery in shown["deliveries"]] == ["queued"]


def test_show_of_a_settled_event_says_that_its_body_is_gone() -> None:
    fill([event(1)], succeeded=1)
    shown = queue("show", event(1).key).stdout
    assert "gone, as all its deliveries are settled" in shown
    assert "inbox/1.png" in shown
    assert json.loads(queue("show", event(1).key, "--json").stdout)["event"] is None


def test_show_of_nothing_is_an_error() -> None:
    fill([event(1)])
    result = queue("show", "ffffffffff")
    assert result.exit_code == 1
    assert "ffffffffff" in result.stderr


def dead_ids() -> list[int]:
    return [item["id"] for item in json.loads(queue("dead", "--json").stdout)]


def test_dead_ones_are_queued_again_by_id() -> None:
    fill([event(number) for number in range(3)], dead=2)
    ids = dead_ids()
    assert queue("replay", str(ids[0])).stdout == "1 queued again\n"
    result = queue("replay", *map(str, ids))
    assert (result.exit_code, result.stdout) == (1, "1 queued again\n")
    assert result.stderr == "dcnios: 1 left alone: not dead\n"
    again = json.loads(queue("list", "--json").stdout)
    assert {item["attempt"] for item in again if item["id"] in ids} == {2}


@pytest.mark.parametrize("chosen", [["--all"], ["--route", "gray"]])
def test_all_dead_ones_are_queued_again(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "PAGE", 2)
    fill([event(number) for number in range(5)], dead=5)
    assert json.loads(queue("replay", *chosen, "--json").stdout) == {"asked": 5, "changed": 5}
    assert dead_ids() == []


def test_another_routes_dead_ones_stay_dead() -> None:
    fill([event(1)], dead=1)
    assert queue("replay", "--route", "other").stdout == "0 queued again\n"
    assert len(dead_ids()) == 1


SELECTIONS = [
    (["--source", "uploads"], 5),
    (["--source", "other"], 0),
    (["--subject", "inbox/1.*"], 1),
    (["--subject", "inbox/*"], 5),
    (["--subject", "*"], 0),
    (["--failure", "script"], 5),
    (["--failure", "unknown"], 0),
    (["--because", "Err*"], 5),
    (["--because", "OOMKilled"], 0),
    (["--since", "1h"], 5),
    (["--until", "1h"], 0),
    (["--since", "2020-01-01T00:00", "--until", "2099-01-01T00:00Z"], 5),
    (["--route", "gray", "--failure", "script", "--subject", "inbox/2.png", "--since", "1d"], 1),
]


@pytest.mark.parametrize(("chosen", "count"), SELECTIONS)
def test_what_has_something_in_common_is_listed_replayed_and_dropped(
    chosen: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PAGE", 2)
    fill([event(number) for number in range(6)], dead=5)
    assert len(json.loads(queue("dead", *chosen, "--json").stdout)) == count
    listed = json.loads(queue("list", "--state", "dead", *chosen, "--json").stdout)
    assert len(listed) == count
    assert len(json.loads(queue("dead", *chosen, "--limit", "1", "--json").stdout)) == min(count, 1)
    dropped = queue("drop", *chosen, "--reason", "known", "--json")
    assert json.loads(dropped.stdout) == {"asked": count, "changed": count}
    rest = queue("replay", "--all", "--json")
    assert json.loads(rest.stdout) == {"asked": 5 - count, "changed": 5 - count}
    shown = json.loads(queue("list", "--json").stdout)
    assert sum(item["state"] == "dropped" and item["note"] == "known" for item in shown) == count


def test_a_replay_by_what_they_have_in_common_leaves_the_others_dead() -> None:
    fill([event(number) for number in range(4)], dead=3)
    assert queue("replay", "--subject", "inbox/[01].png").stdout == "2 queued again\n"
    assert [item["subject"] for item in json.loads(queue("dead", "--json").stdout)] == ["inbox/2.png"]


def test_a_time_that_is_none_is_named() -> None:
    fill([event(1)], dead=1)
    result = queue("dead", "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is neither like 2h" in result.stderr


@pytest.mark.parametrize("wrong", [[], ["1", "--all"], ["--all", "--route", "x"]])
def test_what_to_replay_must_be_said_in_one_way(wrong: list[str]) -> None:
    result = queue("replay", *wrong)
    assert result.exit_code == 2
    assert "give ids, or --all, or what they have in common" in result.stderr


def test_drop_settles_with_a_reason() -> None:
    fill([event(1)], dead=1)
    [number] = dead_ids()
    assert queue("drop", str(number)).exit_code == 2
    assert queue("drop", str(number), "--reason", "test data").stdout == "1 dropped\n"
    [item] = json.loads(queue("list", "--json").stdout)
    assert (item["state"], item["note"]) == ("dropped", "test data")
    assert "test data" in queue("list").stdout
    assert "test data" in queue("show", event(1).key).stdout
    assert queue("drop", str(number), "--reason", "again").exit_code == 1


def test_a_route_is_paused_and_resumed() -> None:
    fill([event(1)])
    assert queue("pause", "gray").stdout == "gray: paused\n"
    assert queue("pause", "gray").stdout == "gray: paused already\n"
    assert queue("stats").stdout.splitlines()[1].startswith("paused: gray since 20")
    assert list(json.loads(queue("stats", "--json").stdout)["paused"]) == ["gray"]
    assert json.loads(queue("resume", "gray", "--json").stdout) == {"route": "gray", "changed": True}
    assert queue("resume", "gray").stdout == "gray: not paused\n"
    assert "paused" not in queue("stats").stdout


def test_only_what_is_a_route_is_paused_and_what_was_one_can_be_resumed() -> None:
    fill([event(1)])
    result = queue("pause", "grey")
    assert (result.exit_code, result.stderr) == (1, "dcnios: no route is called 'grey'; there are: gray\n")
    assert queue("resume", "grey").exit_code == 1
    assert queue("pause", "gray").exit_code == 0
    Path("f.yaml").write_text(CONFIG.replace("gray:", "silver:"))
    assert queue("resume", "gray").stdout == "gray: resumed\n"
    assert queue("resume", "gray").exit_code == 1


def test_a_file_that_is_no_journal_is_named() -> None:
    Path("j.db").write_bytes(b"not a journal at all" * 500)
    for command in (["stats"], ["fsck"]):
        result = queue(*command)
        assert result.exit_code == 1
        assert "j.db" in result.stderr
        assert "Traceback" not in result.output


def test_backup_makes_a_journal_that_can_be_put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    fill([event(number) for number in range(3)], dead=1)
    monkeypatch.setattr(queue_commands, "_PATIENCE", 0.0)
    result = queue("backup", "copy.db")
    assert result.exit_code == 0
    assert result.stdout == f"copy.db: {Path('copy.db').stat().st_size:,} bytes, 3 events\n"
    assert "pages copied" in result.stderr
    assert queue("backup", "copy.db").exit_code == 1
    again = json.loads(queue("backup", "copy.db", "--force", "--json").stdout)
    assert again["events"] == 3
    Path("copy.db").replace("j.db")
    assert queue("fsck").stdout == "j.db: fine\n"
    assert len(dead_ids()) == 1


def hurt(page: int, pages: int = 1) -> None:
    with Path("j.db").open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(bytes(range(256)) * 16 * pages)


def root_of(tree: str) -> int:
    with contextlib.closing(sqlite3.connect("j.db")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (tree,)).fetchone()
        return int(page)


def test_a_journal_with_a_damaged_page_is_mended_beside_the_original() -> None:
    fill([event(number) for number in range(30)], dead=2)
    hurt(root_of("counters"))
    damaged = Path("j.db").read_bytes()
    result = queue("fsck")
    assert (result.exit_code, Path("j.db").read_bytes()) == (1, damaged)
    assert "--repair" in result.stderr
    result = queue("fsck", "--repair")
    assert result.exit_code == 0, result.output
    [kept] = Path().glob("j.db.damaged-*")
    assert kept.read_bytes() == damaged
    assert str(kept) in result.stdout
    assert queue("fsck").stdout == "j.db: fine\n"
    assert len(dead_ids()) == 2
    assert json.loads(queue("stats", "--json").stdout)["events"] == 30
    assert sorted(one.name for one in Path().glob("j.db*")) == ["j.db", kept.name, "j.db.lock"]


def test_what_cannot_be_run_from_the_mended_journal_is_exported_as_cloudevents() -> None:
    fill([event(number) for number in range(5)])
    hurt(root_of("names"))
    result = queue("fsck", "--repair", "--export", "rest.jsonl")
    assert result.exit_code == 0, result.output
    assert "5 events that the journal cannot run are in rest.jsonl" in result.stdout
    lines = [json.loads(line) for line in Path("rest.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [event(number).key for number in range(5)]
    assert lines[0]["data"] == {"n": 1}
    assert lines[0]["dcniosnote"] == "the name of its route was lost"
    assert len(dead_ids()) == 5
    assert queue("fsck", "--export", "x").exit_code == 2


def test_a_mending_that_was_cut_off_is_ended_before_anything_else() -> None:
    """Between taking the damaged file away and putting the mended one there."""
    fill([event(1)])
    Path("j.db").rename("j.db.mended")
    result = queue("stats")
    assert result.exit_code == 1
    assert "run `dcnios queue fsck --repair` again" in result.stderr
    assert not Path("j.db").exists()
    assert queue("fsck", "--repair").exit_code == 0
    assert json.loads(queue("stats", "--json").stdout)["events"] == 1


def test_what_is_no_journal_is_never_taken_apart() -> None:
    with contextlib.closing(sqlite3.connect("j.db")) as other:
        other.execute("CREATE TABLE diary (day)")
    before = Path("j.db").read_bytes()
    for command in (["fsck"], ["fsck", "--repair"]):
        result = queue(*command)
        assert (result.exit_code, Path("j.db").read_bytes()) == (1, before)
        assert "no journal" in result.stderr
    Path("j.db").write_bytes(b"not a journal at all" * 500)
    result = queue("fsck", "--repair")
    assert result.exit_code == 1
    assert "nothing of a journal" in result.stderr
    assert sorted(one.name for one in Path().glob("j.db*")) == ["j.db", "j.db.lock"]
