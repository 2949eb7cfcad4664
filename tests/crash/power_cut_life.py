"""A life of a journal, as a process whose every change to its files is recorded.

``python -m tests.crash.power_cut_life FOLDER SEED FIRST STEPS [END]``: the journal is FOLDER/journal.db,
what was answered goes line by line into FOLDER/acks, the first event has the number FIRST. END ``kill``: in
the end the process is gone without a word; ``fsync``: fsync fails, an append is refused, and it is gone;
``shaky``: the disk fails between any two steps; ``lies``: the journal does not wait for the disk.
"""

import asyncio
import contextlib
import errno
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import JournalUnavailable
from dcnios_daemon.core.ports import Dead, Succeed
from tests.contract.journal_rig import admit, bad, good


class Life:
    """One process."""

    def __init__(self, folder: Path, seed: int, first: int) -> None:
        self._path = folder / "journal.db"
        self._acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._dice = random.Random(seed)
        self._next = first
        self._journal: SqliteJournal

    def _ack(self, **what: Any) -> None:
        os.write(self._acks, json.dumps(what).encode() + b"\n")

    async def open(self) -> None:
        self._journal = SqliteJournal(
            self._path,
            max_events=100_000,
            max_bytes=1 << 30,
            resume_at=0.8,
            dedupe_for=1000.0,
            clock=SystemClock(),
            history=50,
        )
        await self._journal.open()

    async def append(self) -> None:
        numbers = list(range(self._next, self._next + self._dice.randint(1, 6)))
        self._next = numbers[-1] + 1
        data = self._dice.randbytes(self._dice.choice([10, 500, 5000, 20_000]))
        await self._journal.append("uploads", admit(*numbers, data=data), str(numbers[-1]))
        self._ack(append=numbers)

    async def run(self) -> None:
        claims = await self._journal.claim("train", self._dice.randint(1, 5))
        self._ack(claim=[claim.delivery for claim in claims])
        await self._journal.started([claim.delivery for claim in claims])
        for claim in claims:
            dies = self._dice.random() < 0.2
            await self._journal.finish(
                [claim.delivery], bad(claim) if dies else good(claim), Dead() if dies else Succeed()
            )
            self._ack(finish=claim.delivery)

    async def step(self) -> None:
        chance = self._dice.random()
        if chance < 0.04:
            await self._journal.aclose()
            await self.open()
        elif chance < 0.4:
            await asyncio.gather(*(self.append() for _ in range(self._dice.randint(1, 4))), self.run())
        else:
            await self.append()

    async def end_with_a_failing_disk(self) -> None:
        rules = Path(os.environ["IO_FAULTS_RULES"])
        await asyncio.to_thread(rules.write_text, f"fsync {errno.EIO} -wal\n")
        try:
            await self.append()
        except JournalUnavailable:
            await asyncio.to_thread(rules.unlink)
            os._exit(9)
        raise AssertionError("an append whose fsync failed was acknowledged")

    async def shaken_step(self) -> None:
        """Between two steps the disk fails for as long as it takes to be noticed."""
        rules = Path(os.environ["IO_FAULTS_RULES"])
        what = self._dice.choice(["fsync 5 -wal", "fsync 5 journal.db", "write 5 -wal", "write 28"])
        await asyncio.to_thread(rules.write_text, what + "\n")
        with contextlib.suppress(JournalUnavailable):
            for _ in range(3):
                await self.append()
        await asyncio.to_thread(rules.unlink)
        await self._journal.gate.wait_open()

    async def live(self, steps: int, end: str) -> None:
        await self.open()
        for _ in range(steps):
            await self.step()
            if end == "shaky":
                await self.shaken_step()
        if end == "fsync":
            await self.end_with_a_failing_disk()
        if end in {"kill", "shaky"}:
            os._exit(9)
        await self._journal.aclose()


def main(folder: str, seed: str, first: str, steps: str, end: str = "") -> None:
    pragmas = [pragma for pragma in store._PRAGMAS if "wal_autocheckpoint" not in pragma]
    if end == "lies":
        pragmas = [pragma for pragma in pragmas if "synchronous" not in pragma] + ["PRAGMA synchronous = OFF"]
    store._PRAGMAS = (*pragmas, "PRAGMA wal_autocheckpoint = 40")  # type: ignore[assignment]
    asyncio.run(Life(Path(folder), int(seed), int(first)).live(int(steps), end))


if __name__ == "__main__":
    main(*sys.argv[1:])
