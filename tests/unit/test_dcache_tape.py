"""What is known of files on tape, and what follows from a change of attributes. No sockets."""

import pytest
from structlog.testing import capture_logs

from dcnios_daemon.sources.dcache.client.inotify import flags
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.tape import Tape
from tests.unit.test_dcache_source import Scene


def entry(number: int, locality: str) -> Entry:
    return Entry("REGULAR", pnfsid=f"0000{number:032X}", size=1, locality=locality)


@pytest.mark.parametrize(
    ("seen", "stagings"),
    [
        (["ONLINE"], 0),
        (["NEARLINE"], 0),
        (["NEARLINE", "ONLINE_AND_NEARLINE"], 1),
        (["NEARLINE", "ONLINE_AND_NEARLINE", "ONLINE_AND_NEARLINE"], 1),
        (["ONLINE", "ONLINE_AND_NEARLINE"], 0),
        (["NEARLINE", "UNAVAILABLE", "NONE", "ONLINE"], 1),
        (["NEARLINE", "ONLINE", "NEARLINE", "ONLINE"], 2),
    ],
)
def test_only_what_was_on_tape_is_staged_and_once(seen: list[str], stagings: int) -> None:
    tape = Tape("det")
    assert sum(tape.see(entry(1, locality)) for locality in seen) == stagings


def test_what_a_whole_pass_did_not_meet_is_forgotten() -> None:
    tape = Tape("det")
    for number in range(4):
        tape.see(entry(number, "NEARLINE"))
    tape.sweep()
    tape.see(entry(1, "NEARLINE"))
    tape.see(entry(2, "UNAVAILABLE"))
    assert tape.keeps(entry(3, "ONLINE"))  # waits for a look
    tape.sweep()
    assert [tape.see(entry(number, "ONLINE")) for number in range(4)] == [False, True, True, True]


def test_a_full_memory_is_said_once_a_pass_and_keeps_what_it_has() -> None:
    tape = Tape("det", most=2)
    with capture_logs() as said:
        for _ in range(2):
            for number in range(5):
                tape.see(entry(number, "NEARLINE"))
            tape.sweep()
    assert [(line["event"], line["most"]) for line in said] == [("source.tape_memory_full", 2)] * 2
    assert [tape.see(entry(number, "ONLINE")) for number in range(5)] == [True, True, False, False, False]


def test_attributes_are_watched_only_where_staging_is_wanted() -> None:
    assert "IN_ATTRIB" not in flags(["created", "moved", "removed"])
    assert "IN_ATTRIB" in flags(["created", "staged"])
    scene = Scene(on=["created"])
    scene.tell("IN_ATTRIB", name="f")
    assert scene.looks() == []


def test_the_changes_that_come_with_an_upload_need_no_look_of_their_own() -> None:
    scene = Scene(on=["created", "staged"])
    scene.tell("IN_CLOSE_WRITE", name="f")
    scene.tell("IN_ATTRIB", name="f")
    scene.tell("IN_ATTRIB", name="f")
    (upload,) = scene.looks()
    assert upload.is_upload
    scene.tell("IN_ATTRIB", name="f")  # that look may have begun before this
    (change,) = scene.looks()
    assert (change.is_change, change.is_upload, change.id) == (True, False, 3)


def test_a_change_does_not_hide_an_upload_from_the_rename_that_follows() -> None:
    scene = Scene(on=["created", "moved", "staged"])
    scene.tell("IN_CLOSE_WRITE", name="f.part")
    (upload,) = scene.looks()
    scene.tell("IN_ATTRIB", name="f.part")
    scene.tell("IN_MOVED_FROM", name="f.part", cookie="c")
    scene.tell("IN_MOVED_TO", name="f", cookie="c")
    arrived = next(look for look in scene.looks() if look.path == "/data/raw/f")
    assert upload.done
    assert arrived.is_upload
