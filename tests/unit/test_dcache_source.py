"""What the dCache source concludes from what it is told. No sockets."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from pydantic import ValidationError

from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.sources.dcache import door
from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client import login
from dcnios_daemon.sources.dcache.client.channel import Channel
from dcnios_daemon.sources.dcache.client.frontend import Answer, Forbidden, Frontend, Missing, _refusal
from dcnios_daemon.sources.dcache.client.inotify import Happening, Note
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.client.sse import Frame
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.facts import Facts, as_if_told
from dcnios_daemon.sources.dcache.interpreter import Interpreter
from dcnios_daemon.sources.dcache.ledger import Ledger, Position
from dcnios_daemon.sources.dcache.reader import Reader
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.tape import Tape
from dcnios_daemon.sources.dcache.timing import Timing
from dcnios_daemon.sources.dcache.walker import Walker
from dcnios_daemon.sources.dcache.watches import Place, Watches

BASE: dict[str, Any] = {
    "url": "https://dcache.example.org:3880",
    "watch": {"raw": {"path": "/data/raw", "recursive": True}},
    "token": "abc",
}
URL = "http://x/api/v1/events/channels/C"
RAW = Place("/data/raw", "raw", recursive=True, is_root=True)


def settings(**more: Any) -> DcacheSettings:
    return DcacheSettings.model_validate(BASE | more)


class Stopped:
    """Time that stands still."""

    def now(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 100.0


class Scene:
    """A connection whose other end is never asked."""

    def __init__(self, **more: Any) -> None:
        frontend = Frontend(settings(), silence=1)
        self.ledger = Ledger(Position(channel=URL))
        self.connection = Connection(
            source="det",
            settings=settings(**more),
            frontend=frontend,
            channel=Channel(frontend, URL, is_new=True),
            watches=Watches(),
            ledger=self.ledger,
            facts=Facts(source="det", clock=Stopped()),
            tape=Tape("det"),
            clock=Stopped(),
            timing=Timing(grace=0.5),
        )
        self.walker = Walker(self.connection)
        self.interpreter = Interpreter(self.connection, self.walker)
        self.number = -1

    def tell(
        self, *mask: str, name: str | None = None, cookie: str | None = None, place: Place = RAW
    ) -> None:
        self.number += 1
        happening = Happening(name, cookie, mask)
        self.interpreter.take(Note(happening, "s"), place, data=b"{}", number=self.number)
        self.ledger.passed(self.number)

    def position(self) -> str:
        batch = self.ledger.batch(0.0)
        return "" if batch is None else batch.cursor or ""

    def looks(self) -> list[Check]:
        return self.ledger.due(1e9)


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"url": "dcache.example.org"}, "url"),
        ({"watch": {}}, "watch"),
        ({"watch": {"raw": {"path": "data"}}}, "must begin with /"),
        ({"watch": {"raw": {"path": "/a/../b"}}}, r"must not contain"),
        ({"watch": {"a": {"path": "/d", "recursive": True}, "b": {"path": "/d/e"}}}, "already watched by a"),
        ({"watch": {"a": {"path": "/d"}, "b": {"path": "/d/"}}}, "already watched"),
        ({"on": ["message"]}, "created"),
        ({"on": []}, "on"),
        ({"username": "u"}, "go together"),
        ({"username": "u", "password": "p"}, "one of token"),
        ({"token": None}, "one of token"),
        ({"client_key": "/k"}, "needs client_cert"),
        ({"token": None, "client_cert": "/c", "url": "http://x"}, "https"),
    ],
)
def test_what_cannot_work_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**more)


def test_neighbours_may_be_watched_and_paths_are_cleaned() -> None:
    watch = {"a": {"path": "/d//e/", "recursive": True}, "b": {"path": "/d/ef"}, "c": {"path": "/d"}}
    assert [each.path for each in settings(watch=watch).watch.values()] == ["/d/e", "/d/ef", "/d"]


@pytest.mark.parametrize("url", ["https://h:3880", "https://h:3880/", "https://h:3880/api/v1/"])
def test_the_interface_is_below_api_v1(url: str) -> None:
    assert settings(url=url).api == "https://h:3880/api/v1"


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    given = settings(token=None, token_file=str(file))
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        assert login.headers(given) == {"Authorization": f"Bearer {token}"}


def test_a_password_may_hold_anything() -> None:
    given = settings(token=None, username="ü", password="p:é")
    assert login.headers(given) == {"Authorization": "Basic w7w6cDrDqQ=="}


async def test_files_are_staged_through_the_door_or_else_below_the_frontend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors: list[str] = []
    monkeypatch.setattr(door, "DavStore", lambda url, **_: doors.append(url))
    door.store(settings(url="https://dcache.example.org:3880/"))
    door.store(settings(door="https://dcache.example.org:2880"))
    assert doors == ["https://dcache.example.org:3880/dav", "https://dcache.example.org:2880"]


# --- what the server's refusals mean ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, b'{"status":"404","title":"Not Found","detail":"No such channel"}', Missing, "No such channel"),
        (404, b'{"errors":[{"message":"No such channel","status":"404"}]}', Missing, "No such channel"),
        (400, b'{"detail":"Not found: /data"}', Missing, "/data"),
        (400, b'{"detail":"Permission denied: /data"}', Forbidden, "/data"),
        (400, b'{"detail":"Bad selector: x"}', Rejected, "Bad selector"),
        (403, b"", Forbidden, "403"),
        (429, b'{"status":"429","title":"Too Many Requests"}', Rejected, "channels"),
        (429, b"slow down", Disconnected, "slow down"),
        (503, b"<html>", Disconnected, "503"),
        (302, b"", Rejected, "302"),
    ],
)
def test_refusals(status: int, body: bytes, kind: type[SourceError], words: str) -> None:
    error = _refusal("GET x", Answer(status, body))
    assert type(error) is kind
    assert words in str(error)


# --- what is complete ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "complete"),
    [
        (Entry("REGULAR", size=0, locations=("pool",)), True),
        (Entry("REGULAR", size=5, locality="ONLINE_AND_NEARLINE"), True),
        (Entry("REGULAR", size=5, locality="NEARLINE"), True),
        (Entry("REGULAR", size=5, locality="NONE"), False),  # a size may be set beforehand
        (Entry("REGULAR", size=None, locations=("pool",)), False),
        (Entry("DIR", size=512, locality="ONLINE"), False),
    ],
)
def test_complete(entry: Entry, *, complete: bool) -> None:
    assert entry.is_complete is complete


# --- events -------------------------------------------------------------------------------------------

FILE = Entry("REGULAR", pnfsid="0000AB", size=7, created=1_600_000_000_500, locality="ONLINE")


def check(path: str = "/data/raw/f", **more: Any) -> Check:
    return Check(place=RAW, path=path, due=0, until=0, data=b"{}", **more)


def test_stream_and_listing_agree_on_key_and_time_of_an_upload() -> None:
    facts = Facts(source="det", clock=Stopped())
    told, listed = facts.created(check(id=3), FILE), facts.created(check("/data/raw/renamed"), FILE)
    assert (told.key, told.time) == (listed.key, 1_600_000_000.5)
    assert told.attributes == {
        "pnfsid": "0000AB",
        "size": "7",
        "locality": "ONLINE",
        "via": "stream",
        "watch": "raw",
    }
    assert listed.attributes["via"] == "listing"
    assert (told.subject, told.size, told.action) == ("/data/raw/f", 7, Action.CREATED)


def test_each_rename_and_each_removal_is_a_happening_of_its_own() -> None:
    facts = Facts(source="det", clock=Stopped())
    events = [
        facts.created(check(id=1), FILE),
        facts.moved(check(id=2, cookie="a"), FILE, left="/data/raw/e"),
        facts.moved(check(id=3, cookie="b"), FILE, left="/data/raw/e"),
        facts.removed(check(id=4), channel=URL),
        facts.removed(check(id=5), channel=URL),
        facts.removed(check(id=5), channel=f"{URL}D"),
    ]
    assert len({event.key for event in events}) == 6
    assert events[1].attributes["from"] == "/data/raw/e"


def test_what_a_listing_found_looks_as_if_it_had_been_told() -> None:
    assert as_if_told('/d/na"me', "http://s") == (
        b'{"event":{"name":"na\\"me","mask":["IN_CLOSE_WRITE"]},"subscription":"http://s"}'
    )


# --- conclusions --------------------------------------------------------------------------------------


def test_closed_files_are_looked_at_after_the_grace() -> None:
    scene = Scene()
    scene.tell("IN_CREATE", name="f")
    scene.tell("IN_CLOSE_WRITE", name="f")
    assert scene.ledger.due(100.4) == []
    (look,) = scene.ledger.due(100.5)
    assert (look.path, look.id, look.is_upload) == ("/data/raw/f", 1, True)


def test_an_srm_upload_is_a_move_from_nowhere() -> None:
    scene = Scene()
    scene.tell("IN_MOVED_TO", name="f", cookie="c")
    (look,) = scene.looks()
    assert look.path == "/data/raw/f"
    assert scene.interpreter.left("c") is None


@pytest.mark.parametrize("order", ["closed from to", "closed to from", "to from closed"])
def test_an_upload_under_a_temporary_name_is_looked_at_under_its_last(order: str) -> None:
    """Pools and name space tell in no order, nor do two subscriptions."""
    scene = Scene(on=["created", "moved"])
    for word in order.split():
        if word == "closed":
            scene.tell("IN_CLOSE_WRITE", name="f.part")
        else:
            name = "f.part" if word == "from" else "f"
            scene.tell(f"IN_MOVED_{word.upper()}", name=name, cookie="c")
    looks = {look.path: look for look in scene.looks()}
    assert "/data/raw/f" in looks
    if order.startswith("closed"):  # else the old name is looked at in vain
        assert set(looks) == {"/data/raw/f"}
        assert looks["/data/raw/f"].is_upload
        assert scene.interpreter.left("c") == "/data/raw/f.part"


def test_removals_need_no_look() -> None:
    scene = Scene(on=["removed"])
    scene.tell("IN_DELETE", name="f")
    scene.tell("IN_CLOSE_WRITE", name="g")
    batch = scene.ledger.batch(0)
    assert batch is not None
    assert [(event.action, event.subject) for event in batch.events] == [(Action.REMOVED, "/data/raw/f")]
    assert scene.looks() == []


def test_directories_are_adopted_only_where_the_watch_is_recursive() -> None:
    scene = Scene()
    flat = Place("/data/flat", "flat", is_root=True)
    scene.tell("IN_CREATE", "IN_ISDIR", name="d", place=flat)
    assert scene.walker.is_idle
    scene.tell("IN_MOVED_TO", "IN_ISDIR", name="d", cookie="c")
    assert not scene.walker.is_idle


def test_an_overflow_owes_a_listing() -> None:
    scene = Scene()
    scene.tell("IN_Q_OVERFLOW")
    assert not scene.walker.is_idle


@pytest.mark.parametrize("flag", ["IN_IGNORED", "IN_DELETE_SELF", "IN_MOVE_SELF"])
def test_a_lost_root_is_watched_anew_and_everything_listed(flag: str) -> None:
    """As an error it would end each connection: the event comes again until its id is stored."""
    scene = Scene()
    scene.connection.watches.add(RAW, "s", armed=0.0)
    scene.tell(flag)
    assert not scene.walker.is_idle
    assert '"id":0' in scene.position()


def test_a_lost_directory_below_does_not() -> None:
    scene = Scene()
    scene.tell("IN_IGNORED", place=RAW.below("/data/raw/d"))
    scene.tell("IN_MOVE_SELF", "IN_ISDIR", place=RAW.below("/data/raw/d"))


def test_the_late_end_of_a_subscription_that_was_made_again_does_not_end_the_new_one() -> None:
    """A directory was moved: its watch deleted and made again, under the same URL since it is the same inode,
    before the stream had told of the deletion."""
    scene, moved = Scene(), RAW.below("/data/raw/d")
    scene.connection.watches.add(moved, "s", armed=0.0)
    scene.tell("IN_IGNORED", place=moved)
    assert scene.connection.watches.url("/data/raw/d") == "s"
    scene.tell("IN_DELETE_SELF", "IN_ISDIR", place=moved)
    assert scene.connection.watches.url("/data/raw/d") == ""


# --- the stream ---------------------------------------------------------------------------------------


def reader(scene: Scene, expected: int | None = 0) -> Reader:
    scene.connection.watches.add(RAW, f"{URL}/subscriptions/inotify/raw", armed=0)
    silent = cast("aiohttp.ClientResponse", None)  # frames are handed over directly
    return Reader(
        scene.connection, silent, expected=expected, interpreter=scene.interpreter, walker=scene.walker
    )


def closed(number: int | str | None) -> Frame:
    data = msgspec.json.encode(
        Note(Happening("f", None, ("IN_CLOSE_WRITE",)), f"{URL}/subscriptions/inotify/raw")
    )
    return Frame("inotify", None if number is None else str(number), data)


@pytest.mark.parametrize(
    ("expected", "numbers", "owes"),
    [
        (0, [0, 1, 2], False),
        (0, [1], True),  # a new channel begins at 0
        (7, [7, 9], True),
        (None, [9, 10], False),  # nothing is known of what came before: that is listed anyway
        (7, [5, 6, 7], False),
    ],
)
async def test_a_gap_in_the_numbers_owes_a_listing(
    expected: int | None, numbers: list[int], *, owes: bool
) -> None:
    scene = Scene()
    stream = reader(scene, expected)
    for number in numbers:
        stream._take(closed(number))
    assert scene.walker.is_idle is not owes
    assert [look.id for look in scene.looks()] == [each for each in numbers if each >= (expected or 0)]


@pytest.mark.parametrize(
    "frame",
    [
        closed(None),
        closed("seven"),
        closed("-1"),
        Frame("inotify", "0", b"{"),
        Frame("inotify", "0", b"[]"),
        Frame("inotify", "0", b'{"event":{"mask":["X"]}}'),
        Frame("inotify", "0", b'{"event":{"name":"\xff"},"subscription":"s"}'),
        Frame("inotify", "0", closed(0).data, cut=True),
        Frame("SYSTEM", None, b"hello"),
    ],
)
async def test_what_cannot_be_read_is_said_and_made_good_by_a_listing(frame: Frame) -> None:
    scene = Scene()
    reader(scene)._take(frame)
    assert not scene.walker.is_idle
    assert scene.looks() == []


@pytest.mark.parametrize(
    ("said", "kind"), [("SHUTDOWN", Disconnected), ("COMPETING_CLIENT", None), ("NEW_SUBSCRIPTION", None)]
)
async def test_what_the_channel_says_of_itself(said: str, kind: type[SourceError] | None) -> None:
    frame = Frame("SYSTEM", None, msgspec.json.encode({"type": said, "subscription": "s"}))
    with pytest.raises(kind) if kind else nullcontext():
        reader(Scene())._take(frame)


async def test_after_a_loss_any_number_may_come_next() -> None:
    scene = Scene()
    stream = reader(scene, expected=3)
    stream._take(Frame("SYSTEM", None, b'{"type":"EVENT_LOSS"}'))
    assert not scene.walker.is_idle
    stream._take(closed(90))
    assert [look.id for look in scene.looks()] == [90]


# --- bookkeeping --------------------------------------------------------------------------------------


def given(ledger: Ledger, now: float = 0.0) -> Position | None:
    batch = ledger.batch(now)
    return None if batch is None else Position.decode(batch.cursor)


def made(number: int | None) -> Event:
    return Facts(source="det", clock=Stopped()).created(check(id=number), FILE)


def test_what_waits_holds_the_position_back() -> None:
    ledger = Ledger(Position(channel=URL, id=10))
    slow = check(id=11)
    ledger.look(slow)
    ledger.passed(11)
    ledger.give(made(12), 12)
    ledger.passed(12)
    ledger.passed(13)
    position = given(ledger)
    assert position is not None
    assert position.id == 10
    ledger.give(made(11), 11)
    ledger.settle(slow)
    position = given(ledger)
    assert position is not None
    assert position.id == 13


def test_what_is_left_for_the_next_batch_holds_the_position_back() -> None:
    ledger = Ledger(Position(channel=URL))
    for number in range(1200):
        ledger.give(made(number), number)
        ledger.passed(number)
    positions = [given(ledger) for _ in range(3)]
    assert [position.id for position in positions if position] == [499, 999, 1199]
    assert given(ledger) is None


def test_a_listing_counts_only_when_all_of_it_is_given() -> None:
    ledger = Ledger(Position(channel=URL))
    half = check(id=None)
    for _ in range(600):
        ledger.give(made(None), None)
    ledger.look(half)
    ledger.listed(5.0)
    first, second = given(ledger), given(ledger)
    assert first is not None
    assert second is not None
    assert not first.listed
    assert not second.listed
    ledger.settle(half)
    last = given(ledger)
    assert last is not None
    assert (last.listed, last.listed_at) == (True, 5.0)


def test_a_loss_takes_the_listing_back_at_once() -> None:
    ledger = Ledger(Position(channel=URL, id=1, listed=True, listed_at=5.0))
    assert given(ledger, now=1e9) is None
    ledger.owes_listing()
    position = given(ledger)
    assert position is not None
    assert not position.listed


def test_heartbeats_are_stored_now_and_then_only() -> None:
    ledger = Ledger(Position(channel=URL, id=1, listed=True))
    ledger.passed(2)
    assert given(ledger, now=29.0) is None
    position = given(ledger, now=31.0)
    assert position is not None
    assert position.id == 2
    ledger.passed(3)
    assert given(ledger, now=32.0) is None


@pytest.mark.parametrize("cursor", [None, "", "7", "{", '{"id":"x"}'])
def test_a_cursor_of_another_shape_means_the_beginning(cursor: str | None) -> None:
    assert Position.decode(cursor) == Position()


def test_the_ledger_is_bounded() -> None:
    ledger = Ledger(Position(channel=URL))
    for number in range(10_000):
        assert ledger._room.is_set()
        ledger.give(made(number), number)
    assert not ledger._room.is_set()
    ledger.batch(0)
    assert ledger._room.is_set()


# --- watches ------------------------------------------------------------------------------------------


def sub(tail: str, base: str = "https://a/api/v1/events/channels/C/subscriptions/inotify/") -> str:
    return base + tail


def test_subscriptions_are_known_by_their_end_in_any_spelling() -> None:
    watches = Watches()
    watches.add(RAW, sub("AA%2FB+"), armed=0)
    elsewhere = "http://b:80/api/v1/events/channels/C/subscriptions/inotify/AA/B+"
    assert watches.place(elsewhere) is RAW
    assert watches.place(sub("AA%2FB")) is None


def test_a_directory_that_was_renamed_is_known_by_its_new_path_only() -> None:
    watches = Watches()
    watches.add(RAW.below("/data/raw/old"), sub("X"), armed=0)
    watches.add(RAW.below("/data/raw/new"), sub("X"), armed=0)
    assert watches.url("/data/raw/old") == ""
    assert watches.drop_below("/data/raw/old") == []
    place = watches.place(sub("X"))
    assert place is not None
    assert place.path == "/data/raw/new"


def test_what_lies_below_a_directory_goes_with_it() -> None:
    watches = Watches()
    for number, path in enumerate(("/d/a", "/d/a/b", "/d/ab")):
        watches.add(RAW.below(path), sub(str(number)), armed=0)
    assert sorted(watches.drop_below("/d/a")) == [sub("0"), sub("1")]
    assert watches.place(sub("2")) is not None


def test_another_directory_at_the_same_path_is_noticed() -> None:
    watches = Watches()
    watches.add(RAW, sub("X"), armed=0)
    assert not watches.is_another("/data/raw", "1")
    assert not watches.is_another("/data/raw", "1")
    assert watches.is_another("/data/raw", "2")
