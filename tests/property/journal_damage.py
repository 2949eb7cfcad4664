"""A filled journal, damage to it by a seed, and what may and what must come out of mending it."""

import asyncio
import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from dcnios_daemon.buffer.fsck import Finding, fsck
from dcnios_daemon.buffer.pages import Damaged, Image
from dcnios_daemon.core.errors import JournalError
from dcnios_daemon.core.ports import Dead, Succeed
from tests.clocks import ManualClock
from tests.contract.journal_rig import admit, bad, good, make_journal

PAGE = 4096
EVENTS = 200


class Contents(msgspec.Struct):
    """The rows of a journal, by their ids."""

    events: dict[int, tuple[Any, ...]]
    deliveries: dict[int, tuple[Any, ...]]
    keys: dict[bytes, int]


async def fill(path: Path, *, seed: int = 1) -> None:
    """Events of many sizes on two routes, in every state, with pages that were used and freed again."""
    dice, clock = random.Random(seed), ManualClock()
    journal = make_journal("sqlite", path, clock, max_events=10 * EVENTS, history=150)
    await journal.open()
    for start in range(0, EVENTS, 20):
        data = dice.randbytes(dice.choice([10, 300, 3000, 9000]))
        routes = dice.choice([("a",), ("a", "b"), ("b",), ()])
        await journal.append(
            "uploads", admit(*range(start, start + 20), routes=routes, data=data), f"at {start}"
        )
        clock.pass_time(1)
        if start % 60 == 0:
            for number, claim in enumerate(await journal.claim(dice.choice("ab"), 14, sink="job", keep=60.0)):
                if number < 8:
                    await journal.finish([claim.delivery], good(claim), Succeed())
                elif number < 10:
                    await journal.finish([claim.delivery], bad(claim), Dead())
                elif number < 12:
                    await journal.started([claim.delivery])
    await journal.aclose()


def contents(path: Path) -> Contents:
    """What is in a sound journal; its log is left as it is."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return Contents(
            {row[0]: row[1:] for row in connection.execute("SELECT id, key, source, head, data FROM events")},
            {
                row[0]: row[1:]
                for row in connection.execute("SELECT id, event, route, state, attempt, name FROM deliveries")
            },
            dict(connection.execute("SELECT key, event FROM keys")),
        )


def damage(path: Path, dice: random.Random) -> set[int]:
    """Hurt one to a few pages, each in one of several ways. Returns which."""
    pages = path.stat().st_size // PAGE
    hurt = {dice.randint(1, pages) for _ in range(dice.choice([1, 1, 2, 5, 20]))}
    with path.open("r+b") as file:
        for page in hurt:
            kind = dice.choice(["page", "sector", "bytes", "zeros", "byte"])
            size = {"page": PAGE, "zeros": PAGE, "sector": 512, "bytes": 40, "byte": 1}[kind]
            place = dice.randrange(0, PAGE - size + 1, size if size >= 512 else 1)
            file.seek((page - 1) * PAGE + place)
            file.write(bytes(size) if kind == "zeros" else dice.randbytes(size))
    return hurt


def on_pages(path: Path, hurt: set[int]) -> tuple[set[int], set[int], bool]:
    """Before the damage: ids of the events and deliveries that have a part on these pages, and whether the
    list of free pages has one too: then what no tree leads to may be out of use, and is told only."""
    events: set[int] = set()
    deliveries: set[int] = set()
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))
    with closing(Image(path)) as image:
        trunk = int.from_bytes(image.raw(1)[32:36], "big")
        free_is_lost = bool(hurt & {1, trunk})
        for tree, touched in (("events", events), ("deliveries", deliveries)):
            left = [roots[tree]]
            while left:
                number = left.pop()
                page = image.page(number)
                left.extend(page.children)
                whole = _without(image, number, hurt) if number not in hurt else set()
                touched.update({row.rowid for row in page.rows} - whole)
    return events, deliveries, free_is_lost


def _without(image: Image, number: int, hurt: set[int]) -> set[int]:
    """The rows of a page that do not go on on one of the hurt pages."""
    raw = image.raw

    def without(one: int) -> bytes:
        if one in hurt:
            raise Damaged("hidden")
        return raw(one)

    image.raw = without  # type: ignore[method-assign, assignment]
    image.taken = bytearray(image.count + 1)
    try:
        return {row.rowid for row in image.page(number).rows if row.whole}
    finally:
        image.raw = raw  # type: ignore[method-assign]
        image.taken = bytearray(image.count + 1)


class Mended(msgspec.Struct):
    """What came out."""

    findings: list[Finding]
    contents: Contents
    exported: set[str]
    """Keys."""


def mend(path: Path) -> Mended | JournalError:
    """Run fsck on it as an operator would; the original must be what it was."""
    before = path.read_bytes()
    export = path.with_name("export.jsonl")
    try:
        found = fsck(path)
        assert path.read_bytes() == before
        findings = fsck(path, repair=True, export=export)
    except JournalError as error:
        assert path.read_bytes() == before
        return error
    assert bool(found) == bool(findings)
    if findings:
        (kept,) = [one for one in path.parent.glob("*.damaged-*") if one.suffix != ".jsonl"]
        assert kept.read_bytes() == before
    assert fsck(path) == []
    lines = export.read_text().splitlines() if export.exists() else []
    return Mended(findings, contents(path), {json.loads(one)["id"] for one in lines})


def check(pristine: Path, folder: Path, seed: int) -> Mended | JournalError:
    """Damage a copy by this seed, mend it, and look at what came out."""
    dice = random.Random(seed)
    path = folder / f"{seed}" / "journal.db"
    path.parent.mkdir()
    shutil.copy(pristine, path)
    hurt = damage(path, dice)
    was = contents(pristine)
    events, deliveries, free_is_lost = on_pages(pristine, hurt)
    made = mend(path)
    if isinstance(made, JournalError):
        return made
    now = made.contents
    _nothing_is_invented(was, now, events, deliveries)
    if not free_is_lost:
        missing = was.events.keys() - now.events.keys() - events
        told = {number for number in missing if was.events[number][0].hex() in made.exported}
        alone = {number for number in missing - told if was.events[number][3] is None}  # no delivery is left
        assert missing == told | alone, (seed, hurt, missing)
        lost = was.deliveries.keys() - now.deliveries.keys() - deliveries
        assert {was.deliveries[number][0] for number in lost} <= events, (seed, hurt, lost)
    for number, (key, *_) in now.events.items():
        if any(one[2] < 4 and one[0] == number for one in now.deliveries.values()):
            assert key.hex() not in made.exported, (seed, "would run and is exported", number)
    return made


def _nothing_is_invented(was: Contents, now: Contents, events: set[int], deliveries: set[int]) -> None:
    keys = [event[0] for event in now.events.values()]
    for number, event in now.events.items():
        if number not in events:
            assert number in was.events
            assert event[0] == was.events[number][0]
            assert event[2:3] == was.events[number][2:3]
            assert event[3] in (None, was.events[number][3])
    open_keys = [now.events[one[0]][0] for one in now.deliveries.values() if one[2] < 4]
    assert len({(one[0], one[1]) for one in now.deliveries.values()}) == len(now.deliveries)
    assert set(open_keys) <= set(keys)
    for number, (event, route, state, attempt, name) in now.deliveries.items():
        if number in deliveries:
            continue
        before = was.deliveries.get(number)
        if before is None:
            assert state == 4, "only what was lost stands anew, and dead"
        elif state < 4:
            assert before == (event, route, state, attempt, name)
        else:
            assert before[2] == state or state in {4, 6}


async def pristine(folder: Path) -> Path:
    """A filled journal without a log."""
    path = folder / "pristine" / "journal.db"
    await fill(path)
    assert await asyncio.to_thread(fsck, path) == []
    return path


async def killed(folder: Path) -> Path:
    """A journal as a kill leaves it: the file, and much in the log."""
    path = folder / "killed" / "journal.db"
    await fill(path)
    journal = make_journal("sqlite", path, ManualClock(), max_events=10 * EVENTS, history=150)
    await journal.open()
    for start in range(EVENTS, EVENTS + 60, 10):
        await journal.append(
            "uploads", admit(*range(start, start + 10), routes=("a",), data=b"x" * 800), None
        )
    copy = folder / "copy" / "journal.db"
    copy.parent.mkdir()
    for rest in ("", "-wal"):
        shutil.copy(f"{path}{rest}", f"{copy}{rest}")
    await journal.aclose()
    return copy


def without_log(path: Path, folder: Path) -> Contents:
    """What is in the file alone."""
    alone = folder / "alone.db"
    shutil.copy(path, alone)
    return contents(alone)


def check_with_log(pristine: Path, folder: Path, seed: int) -> Contents | None:
    """Damage the log of a copy, and every second time the file, too: both are mended. Returns what is there
    if it was the log alone."""
    dice = random.Random(seed)
    path = folder / f"log-{seed}" / "journal.db"
    path.parent.mkdir()
    for rest in ("", "-wal"):
        shutil.copy(f"{pristine}{rest}", f"{path}{rest}")
    log = path.with_name("journal.db-wal")
    with log.open("r+b") as file:
        for _ in range(dice.choice([1, 3])):
            file.seek(dice.randrange(log.stat().st_size))
            file.write(dice.randbytes(dice.choice([1, 40, 4096])))
    both = dice.random() < 0.5
    if both:
        damage(path, dice)
    fsck(path, repair=True)
    assert fsck(path) == []
    return None if both else contents(path)
