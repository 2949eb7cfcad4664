"""What can be read of a damaged journal, put into a new one.

A row comes from a page that its tree leads to, or from one that no tree leads to any more, if the list of
free pages is whole and so says that it is in use. From what may be long out of use no row is taken, its
events are only told. What two places tell differently (a delivery and the index over it, an event and its
key) is dead, not queued: it may have run.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from dcnios_daemon.buffer import sound, store
from dcnios_daemon.buffer.pages import Damaged, Image, Page, Row
from dcnios_daemon.buffer.queries import query, schema
from dcnios_daemon.buffer.records import Head, event_of, unpack
from dcnios_daemon.core.errors import JournalCorrupt
from dcnios_daemon.core.event import Action, Event, cloudevent

_SAID = 20
_PORTION = 10_000


class Kind(msgspec.Struct, frozen=True):
    """A tree of the file, and where its rows go."""

    tree: str
    read: Callable[[Row], sound.Values]
    put: str
    """The statement."""


_KINDS = (
    Kind("names", sound.name, "salvage_name"),
    Kind("meta", sound.meta, "set_meta"),
    Kind("cursors", sound.cursor, "salvage_cursor"),
    Kind("keys", sound.key, "salvage_key"),
    Kind("remembered", sound.remembered, "salvage_remembered"),
    Kind("counters", sound.counter, "set_counters"),
    Kind("events", sound.event, "salvage_event"),
    Kind("deliveries", sound.delivery, "salvage_delivery"),
    Kind("place", sound.place, "salvage_witness"),
)
_BY_TREE = {kind.tree: kind for kind in _KINDS}


class Salvage:
    """One attempt at it.

    Args:
        path: The damaged file.
        to: The new one, which must not be there.
    """

    def __init__(self, path: Path, to: Path) -> None:
        self._path = path
        self._to = to
        self.said: list[str] = []
        """What was found damaged, and what is lost, in words."""
        self._flaws: Counter[str] = Counter()
        self._damage: list[str] = []
        self._new: sqlite3.Connection

    def run(self, unplaced: Callable[[Event, str], None]) -> None:
        """Make the new journal. Its counts and the like are still to be mended.

        Args:
            unplaced: Told of each event that the new journal cannot run, and why.

        Raises:
            JournalCorrupt: There is nothing of a journal in the file, or it is a newer one.
            sqlite3.Error: The disk under the new one fails.
            OSError: A disk fails.
        """
        with (
            closing(Image(self._path)) as image,
            closing(store.connect(self._to, create=True)) as self._new,
        ):
            self._new.execute("PRAGMA synchronous = OFF")  # it is synced once, whole
            self._new.execute("PRAGMA temp_store = FILE")
            self._new.execute("BEGIN")
            for name in ("salvage_make_witnesses", "salvage_make_unplaced", "salvage_make_recalled"):
                self._new.execute(query(name))
            self._refuse_others(image)
            self._read(image)
            if not self._counted("events") + self._counted("deliveries") + self._counted("keys"):
                raise JournalCorrupt(f"there is nothing of a journal in {self._path}")
            self._recall()
            self._name_the_nameless()
            self._doubt()
            self._tell(unplaced)
            self._say(image)
            self._new.execute("COMMIT")

    # -- reading ----------------------------------------------------------------------------------------

    def _refuse_others(self, image: Image) -> None:
        """A sound file of another program, or of a newer version, is no damaged journal.

        Raises:
            JournalCorrupt: It is one.
        """
        try:
            trees, header = _trees(image.page(1).rows), image.raw(1)
        except Damaged:
            return
        ours = int.from_bytes(header[68:72], "big") == store.APPLICATION
        if image.has_header and not ours and trees and not trees.keys() & _BY_TREE.keys():
            raise JournalCorrupt(f"{self._path} is a database, but no journal")
        version = int.from_bytes(header[60:64], "big")
        if image.has_header and ours and version > store.SCHEMA and "deliveries" in trees:
            raise JournalCorrupt(
                f"{self._path} has schema version {version}, this program knows {store.SCHEMA}"
            )

    def _read(self, image: Image) -> None:
        free = image.free()
        if not free:
            self._damage.append("the list of free pages is damaged")
        for tree, root in self._roots(image).items():
            for page in image.walk(root):
                if isinstance(page, Damaged):
                    self._flaws[tree] += 1
                    self._damage.append(f"{page} ({tree})")
                    continue
                if page.flaws:
                    self._damage.append(f"{page.flaws} rows of {tree} are damaged")
                self._take(tree, page)
        for page in image.strays():
            whose = _tree_of(page.rows[0])
            if whose is not None and (free or self._flaws[whose]):
                self._take(whose, page, certain=free)

    def _roots(self, image: Image) -> dict[str, int]:
        """Where the trees begin: as the file says, or else where they always do."""
        with closing(sqlite3.connect(":memory:")) as empty:
            empty.executescript(schema())
            usual = dict(
                empty.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall()
            )
        try:
            return usual | _trees(image.page(1).rows)
        except Damaged as error:
            self._damage.append(str(error))
            return usual

    def _take(self, tree: str, page: Page, *, certain: bool = True) -> None:
        kind = _BY_TREE.get(tree)
        if kind is None:
            return
        self._flaws[tree] += page.flaws
        for row in page.rows:
            values = kind.read(row)
            if values is None or not self._put(kind, values, certain=certain, clean=not page.flaws):
                self._flaws[tree] += 1
                if tree == "events":
                    self._set_aside(row, "its row is damaged")

    def _put(self, kind: Kind, values: Sequence[object], *, certain: bool, clean: bool) -> bool:
        if kind.tree == "events" and not certain:
            self._new.execute(
                query("salvage_unplaced"), (*values[:3], *values[7:], "it may have run long ago")
            )
            return True
        if not certain and kind.tree != "keys":
            return True
        if kind.tree == "deliveries" and not clean:
            self._new.execute(query("salvage_doubt_one"), (values[0],))
        if kind.tree == "remembered":
            packed = bytes(values[2])  # type: ignore[call-overload]  # sound
            keys = range(0, len(packed), sound.KEY_BYTES)
            rows = [(packed[start : start + sound.KEY_BYTES], values[1]) for start in keys]
            self._new.executemany(query("salvage_recalled"), rows)
        self._new.execute(query(kind.put), values)
        return True

    def _set_aside(self, row: Row, why: str) -> None:
        """An event that is not sound, as far as it goes."""
        values = [*row.values, *[None] * 9][:9]
        key, source, head, data = values[1], values[2], values[7], values[8]
        if isinstance(key, bytes) and len(key) == sound.KEY_BYTES and isinstance(data, bytes):
            number = source if isinstance(source, int) else 0
            kept = head if isinstance(head, bytes) else b""
            self._new.execute(query("salvage_unplaced"), (row.rowid, key, number, kept, data, why))

    # -- making sense of it -----------------------------------------------------------------------------

    def _counted(self, table: str) -> int:
        count: int = self._new.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        return count

    def _recall(self) -> None:
        """Keys are told in three places: what is missing in one is taken from the others, so that nothing is
        accepted twice; and none is kept for ever."""
        self._new.execute(query("set_meta"), ("schema", store.SCHEMA))
        self._new.execute(query("salvage_clock"))
        recalled = self._new.execute(query("salvage_keys_of_events")).rowcount
        recalled += self._new.execute(query("salvage_keys_recalled")).rowcount
        if recalled:
            self.said.append(f"{recalled} keys were lost and found elsewhere")
        rows = self._new.execute(query("salvage_never_forgotten")).fetchall()
        for start in range(0, len(rows), _PORTION):
            packed = b"".join(key for (key,) in rows[start : start + _PORTION])
            self._new.execute(query("salvage_remember"), (packed,))

    def _name_the_nameless(self) -> None:
        """Names are counted from 0 without a gap."""
        known = dict(self._new.execute("SELECT id, name FROM names").fetchall())
        used = {row[0] for row in self._new.execute(query("salvage_used_names"))}
        for number in range(max(used | known.keys()) + 1):
            if number not in known:
                name = f"lost-{number}" + "-" * list(known.values()).count(f"lost-{number}")
                self._new.execute(query("add_name"), {"id": number, "name": name})
                self.said.append(f"the name of route or source {number} is lost: it is called {name} now")
                self._new.execute(query("salvage_bury_route"), {"route": number})

    def _doubt(self) -> None:
        """What may have run must not run again by itself."""
        doubtful = self._new.execute(query("salvage_bury_doubtful")).rowcount
        doubtful += self._new.execute(
            query("salvage_bury_keyless"), {"all": not self._flaws["keys"]}
        ).rowcount
        if doubtful:
            self.said.append(f"{doubtful} deliveries are dead, for it is not certain how they stood")

    def _tell(self, unplaced: Callable[[Event, str], None]) -> None:
        names = dict(self._new.execute("SELECT id, name FROM names").fetchall())
        for key, source, head, data, why in self._new.execute(query("salvage_told")):
            unplaced(_readable(head, bytes(key), names.get(source, f"lost-{source}"), bytes(data)), why)

    def _say(self, image: Image) -> None:
        self.said += self._damage[:_SAID]
        if len(self._damage) > _SAID:
            self.said.append(f"and {len(self._damage) - _SAID} more like these")
        if image.log_lost:
            self.said.append(f"{image.log_lost} pages in the log come after a damaged one and are lost")
        lone = self._new.execute(query("salvage_lone")).fetchone()[0]
        if lone:
            self.said.append(f"{lone} deliveries are lost with their events")
        (fewer,) = self._new.execute(query("salvage_deliveries_fewer")).fetchone()
        if fewer:
            self.said.append(f"{fewer} deliveries of events that could be read are lost")
        bodies = self._new.execute(query("salvage_bodies")).fetchone()[0]
        if bodies:
            self.said.append(f"the bodies of {bodies} events with something left to do are lost")
        counted, found = self._new.execute(query("salvage_events_counted")).fetchone()
        if counted is not None and counted > found:
            self.said.append(f"{counted} events had something left to do, {found} of them could be read")
        if self._flaws["cursors"]:
            self.said.append(
                "the places of some sources may be lost: those begin anew, keys tell what is known"
            )


def _trees(rows: Sequence[Row]) -> dict[str, int]:
    """From the file's own table of tables."""
    return {
        str(row.values[1]): row.values[3]
        for row in rows
        if len(row.values) == 5 and isinstance(row.values[3], int) and row.values[3] > 1  # noqa: PLR2004
    }


def _tree_of(row: Row) -> str | None:
    """Whose a page is that no tree leads to, by its first row."""
    for tree in ("events", "deliveries", "remembered", "keys"):
        if (tree == "keys") == (row.rowid == 0) and _BY_TREE[tree].read(row) is not None:
            return tree
    return None


def _readable(head: bytes, key: bytes, source: str, data: bytes) -> Event:
    try:
        about = unpack(Head, head)
    except (ValueError, TypeError):
        about = Head("unknown", "", Action.MESSAGE, 0.0, None, "application/octet-stream", {})
    return event_of(about, key=key.hex(), source=source, data=data)


def line(event: Event, why: str) -> bytes:
    """The event as a CloudEvent on a line of its own, with why it stands there."""
    return json.dumps(cloudevent(event) | {"dcniosnote": why}).encode() + b"\n"
