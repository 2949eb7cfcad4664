"""A seeded mixture of all that can go wrong: the same seed and the same calls give the same mishaps.

The server asks before every change of files, by a method or through the door, and before every request
to the REST interface; the two draw from generators of their own, so that clients' retries do not shift the
rest. Only things that the sheet describes happen, so a client that follows it loses nothing. Some of them no
client can notice (:data:`SILENT`): those it must find by listing on a period.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import FakeDcache

CHANGES = {"PUT", "MKCOL", "MOVE", "DELETE"}

Mishap = Callable[["Chaos", "FakeDcache"], Awaitable[None]]


class Chaos:
    """Does harm at ``rate`` of all steps until :meth:`calm`."""

    def __init__(
        self,
        seed: int,
        *,
        rate: float = 0.1,
        busy: float = 0.02,
        slow: float = 0.02,
        mishaps: Sequence[str] | None = None,
    ) -> None:
        """Seed the harm: ``busy`` is the share of requests that get a 429, ``slow`` the longest delay; of all
        mishaps, or only of these."""
        self.rate = rate
        self.busy = busy
        self.slow = slow
        self.done: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._requests_rng = random.Random(f"requests {seed}")
        self._is_calm = False
        self._names = sorted(_MISHAPS if mishaps is None else mishaps)

    async def step(self, dcache: FakeDcache) -> None:
        """Do harm, or not, before an operation on files."""
        draw = self._rng.random()
        if self._is_calm or draw >= self.rate or not self._names:
            return
        name = self._rng.choice(self._names)
        self.done[name] += 1
        await _MISHAPS[name](self, dcache)

    async def before_request(self, dcache: FakeDcache, method: str, path: str) -> bool:
        """Do harm, or not, before a request; False has it answered 429."""
        if not path.startswith("/api/"):
            if method in CHANGES:
                await self.step(dcache)
            return True
        draw = self._requests_rng.random()
        if self._is_calm:
            return True
        if draw < self.busy:
            self.done["busy"] += 1
            return False
        if method == "POST" and draw > 1 - self.busy and path.endswith("/inotify"):
            self.done["zookeeper"] += 1
            dcache.switches.zookeeper_fails = 1
        return True

    def calm(self, dcache: FakeDcache) -> None:
        """Stop: from now on the server is healthy, what was lost stays lost."""
        self._is_calm = True
        switches = dcache.switches
        switches.arming_delay = switches.arming_delay_pools = 0.0
        switches.delay_pnfsmanager = switches.delay_pools = switches.delay_nfs = switches.sender_jitter = 0.0
        switches.drop_queue_on_change = False
        switches.half_open_after = switches.drop_after = switches.zookeeper_fails = 0
        switches.lose_every = switches.refuse_logins = switches.limit_errors = 0
        switches.limit_block = 10.0
        dcache.forgive_clients()
        switches.omit_entries, switches.quota, switches.backlog = 0.0, 128, 16_383
        switches.subscription_queue = switches.dispatch_queue = 1000
        switches.early_404 = switches.stale_stats = 0

    async def _drop(self, dcache: FakeDcache) -> None:
        dcache.drop_streams()

    async def _freeze(self, dcache: FakeDcache) -> None:
        dcache.freeze_streams()

    async def _restart(self, dcache: FakeDcache) -> None:
        await dcache.restart(crash=self._rng.random() < 0.5)

    async def _expire(self, dcache: FakeDcache) -> None:
        dcache.drop_streams()
        dcache.expire_channels()

    async def _overflow(self, dcache: FakeDcache) -> None:
        """Shrink the queues, so that the next burst does not fit."""
        dcache.switches.subscription_queue = self._rng.choice([1, 3, 10, 1000])
        dcache.switches.dispatch_queue = self._rng.choice([1, 3, 10, 1000])
        dcache.switches.delay_pools = self._rng.choice([0.0, self.slow])

    async def _lose_queue(self, dcache: FakeDcache) -> None:
        dcache.drop_unsent_events()

    async def _reorder(self, dcache: FakeDcache) -> None:
        switches = dcache.switches
        switches.delay_pnfsmanager = self._rng.choice([0.0, self.slow])
        switches.delay_pools = self._rng.choice([0.0, self.slow])
        switches.delay_nfs = self._rng.choice([0.0, self.slow])
        switches.sender_jitter = self._rng.choice([0.0, self.slow])

    async def _arm_late(self, dcache: FakeDcache) -> None:
        dcache.switches.arming_delay = self._rng.choice([0.0, self.slow])
        dcache.switches.arming_delay_pools = self._rng.choice([0.0, self.slow, 2 * self.slow])

    async def _change_loses(self, dcache: FakeDcache) -> None:
        dcache.switches.drop_queue_on_change = self._rng.random() < 0.5

    async def _arm_later(self, dcache: FakeDcache) -> None:
        """Later than any client waits."""
        dcache.switches.arming_delay_pools = self._rng.choice([0.0, 10 * self.slow])

    async def _omit(self, dcache: FakeDcache) -> None:
        dcache.switches.omit_entries = self._rng.choice([0.0, 0.2])

    async def _compete(self, dcache: FakeDcache) -> None:
        """Another daemon of the same name; it may also destroy what the channel has kept."""
        for channel in dcache.registrar.all():
            await channel.steal(self._rng.choice([None, "-1"]))

    async def _leave_a_gap(self, dcache: FakeDcache) -> None:
        dcache.switches.lose_every = self._rng.choice([0, 2, 7])

    async def _shrink_backlog(self, dcache: FakeDcache) -> None:
        """Of the channels to come."""
        dcache.switches.backlog = self._rng.choice([2, 20, 16_383])

    async def _refuse(self, dcache: FakeDcache) -> None:
        """The login fails for a while, or the user has as many channels as may be."""
        dcache.switches.refuse_logins = self._rng.choice([0, 1, 4])
        dcache.switches.limit_errors = self._rng.choice([0, 3])
        dcache.switches.limit_block = 5 * self.slow
        dcache.switches.quota = self._rng.choice([0, 128])

    async def _break_inside(self, dcache: FakeDcache) -> None:
        dcache.switches.drop_after = self._rng.choice([0, 1, 5, 20])
        dcache.switches.half_open_after = self._rng.choice([0, 0, 5, 20])

    async def _look_incomplete(self, dcache: FakeDcache) -> None:
        dcache.switches.stale_stats = self._rng.choice([0, 1, 2])
        dcache.switches.early_404 = self._rng.choice([0, 1, 2])

    async def _change_manners(self, dcache: FakeDcache) -> None:
        switches = dcache.switches
        switches.closed_before_ignored = self._rng.random() < 0.5
        switches.hold_201 = self._rng.choice([0.0, self.slow])
        switches.shuffle_pages = self._rng.random() < 0.5
        switches.abort_leaves_entry = self._rng.random() < 0.5
        switches.legacy_errors = self._rng.random() < 0.5


_MISHAPS: dict[str, Mishap] = {
    "drop": Chaos._drop,
    "freeze": Chaos._freeze,
    "restart": Chaos._restart,
    "expire": Chaos._expire,
    "overflow": Chaos._overflow,
    "lose queue": Chaos._lose_queue,
    "reorder": Chaos._reorder,
    "arm late": Chaos._arm_late,
    "arm later": Chaos._arm_later,
    "change loses": Chaos._change_loses,
    "omit entries": Chaos._omit,
    "compete": Chaos._compete,
    "leave a gap": Chaos._leave_a_gap,
    "shrink backlog": Chaos._shrink_backlog,
    "refuse": Chaos._refuse,
    "break inside": Chaos._break_inside,
    "look incomplete": Chaos._look_incomplete,
    "change manners": Chaos._change_manners,
}

MISHAPS = frozenset(_MISHAPS)
SILENT = frozenset({"lose queue", "arm later", "change loses", "omit entries"})
"""What nothing tells of."""
