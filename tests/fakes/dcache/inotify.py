"""The inotify event stream of one frontend: selectors, watches, their queues (sections 1 and 3)."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import deque
from collections.abc import Awaitable, Callable

from .auth import Login
from .namespace import Namespace, NoSuchFileError, join
from .notifier import Happening, Source
from .replies import ApiError
from .selector import Selector, SelectorError
from .switches import Switches
from .tasks import Tasks

Payload = dict[str, object]
IN_IGNORED: Payload = {"mask": ["IN_IGNORED"]}
IN_Q_OVERFLOW: Payload = {"mask": ["IN_Q_OVERFLOW"]}
CLOSE_STREAM: Payload = {"": "close"}  # never sent: tells the channel to end the subscription
SAY_CLOSED: Payload = {"": "closed"}  # never sent: tells the channel to say SUBSCRIPTION_CLOSED now

Receiver = Callable[[str, Payload], Awaitable[None]]


class Selection:
    """One watch of one channel (Inotify.InotifySelection)."""

    def __init__(
        self, inotify: Inotify, key: tuple[str, str], selector: Selector, receiver: Receiver
    ) -> None:
        """Watch the inode ``key[1]`` for the channel ``key[0]``."""
        self.key = key
        self.id = _subscription_id(key[1], standard=inotify.switches.standard_base64)
        self.selector = selector
        self.login: Login | None = None
        self.closed = False
        self.sent = 0
        self.first_sent = asyncio.Event()
        self._inotify = inotify
        self._receiver = receiver
        self._queue: deque[Payload] = deque()
        self._overflow = False
        self._sending = False
        self._masks: dict[Source, deque[tuple[float, frozenset[str]]]] = {}
        self._effective = selector.events()
        self.arm()

    def described(self) -> dict[str, object]:
        """Return the selector as supplied, or as merged."""
        return self.selector.described()

    def merge(self, selector: Selector) -> None:
        """Replace path and flags; IN_MASK_ADD is broken as in dCache (section 3, "303 merge")."""
        self._effective = selector.events()
        if "IN_MASK_ADD" in selector.flags:
            selector = self.selector.united_with(selector)
            if not self._inotify.switches.mask_add_bug:
                self._effective = selector.events()
        self.selector = selector
        self.arm()

    def arm(self) -> None:
        """Tell the sources the mask; each hears of it in its own time (section 3)."""
        switches = self._inotify.switches
        now = asyncio.get_running_loop().time()
        mask = self._effective | {"IN_DELETE_SELF"}
        for source in Source:
            delay = switches.arming_delay_pools if source is Source.POOL else switches.arming_delay
            self._masks.setdefault(source, deque(maxlen=16)).append((now + delay, mask))

    def is_armed(self, source: Source, flag: str) -> bool:
        """Whether ``source`` knows by now that ``flag`` is wanted."""
        masks = self._masks[source]
        now = asyncio.get_running_loop().time()
        while len(masks) > 1 and masks[1][0] <= now:
            masks.popleft()
        due, mask = masks[0]
        return due <= now and flag in mask

    def accept(self, happening: Happening, payload: Payload) -> None:
        """Queue an event if it was asked for and the subscriber may know of it."""
        if self.closed or happening.flag not in self._effective or not self._may_see(happening.name):
            return
        self._put(payload)
        if "IN_ONESHOT" in self.selector.flags:
            self.request_close()

    def accept_overflow(self) -> None:
        """Queue IN_Q_OVERFLOW of a source's queue."""
        if not self.closed:
            self._put(IN_Q_OVERFLOW)

    def request_close(self) -> None:
        """End the subscription after what is queued."""
        if not self.closed:
            self._put(CLOSE_STREAM)

    def close(self, *, then_say_closed: bool = False) -> None:
        """End the subscription now; IN_IGNORED is sent by another thread (section 2)."""
        if self.closed:
            return
        self._put(IN_IGNORED)
        if then_say_closed:
            self._queue.append(SAY_CLOSED)
        self.closed = True
        self._inotify.forget(self)

    def _may_see(self, name: str | None) -> bool:
        """Apply the restrictions captured at subscribe time (section 3)."""
        if self.login is None:
            return True
        path = self.login.resolve(self.selector.path)
        return self.login.permits("READ_METADATA", path if name is None else join(path, name))

    def _put(self, payload: Payload) -> None:
        if len(self._queue) < self._inotify.switches.subscription_queue:
            self._queue.append(payload)
        else:
            self._overflow = True
        if not self._sending:
            self._sending = True
            self._inotify.tasks.start(self._send(), name=f"sender of {self.key[1]}")

    def _drain(self) -> list[Payload]:
        todo = list(self._queue)
        self._queue.clear()
        if self._overflow:
            self._overflow = False
            todo.append(IN_Q_OVERFLOW)
        return todo

    async def _send(self) -> None:
        try:
            jitter = self._inotify.switches.sender_jitter
            if jitter > 0:
                await asyncio.sleep(self._inotify.rng.uniform(0, jitter))
            while todo := self._drain():
                for payload in todo:
                    await self._receiver(self.id, payload)
                    self.first_sent.set()
        finally:
            self._sending = False


class Inotify:
    """All watches of the frontend."""

    def __init__(self, namespace: Namespace, switches: Switches, tasks: Tasks, rng: random.Random) -> None:
        """Watch inodes of ``namespace``."""
        self.switches = switches
        self.tasks = tasks
        self.rng = rng
        self.on_change: Callable[[], None] = lambda: None
        self._namespace = namespace
        self._by_key: dict[tuple[str, str], Selection] = {}
        self._by_pnfsid: dict[str, list[Selection]] = {}

    def __len__(self) -> int:
        """The number of watches."""
        return len(self._by_key)

    def select(self, channel: str, body: object, login: Login, receiver: Receiver) -> tuple[Selection, bool]:
        """Return the watch that ``body`` asks for and whether it is new (``Inotify.select``)."""
        selector = Selector.parse(body)
        selector.check()
        pnfsid = self._lookup(selector, login)
        key = (channel, pnfsid)
        selection = self._by_key.get(key)
        if selection is not None:
            selection.merge(selector)
            self.on_change()
            return selection, False
        selection = Selection(self, key, selector, receiver)
        selection.login = login
        self._by_key[key] = selection
        self._by_pnfsid.setdefault(pnfsid, []).append(selection)
        self._update_zookeeper()
        self.on_change()
        return selection, True

    def forget(self, selection: Selection) -> None:
        """Drop a closed watch."""
        if self._by_key.get(selection.key) is selection:
            del self._by_key[selection.key]
        watchers = self._by_pnfsid.get(selection.key[1], [])
        if selection in watchers:
            watchers.remove(selection)
        if not watchers:
            self._by_pnfsid.pop(selection.key[1], None)
        self.on_change()

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        self._by_key.clear()
        self._by_pnfsid.clear()

    def is_armed(self, happening: Happening) -> bool:
        """Whether any watch of the target is known to the source."""
        watchers = self._by_pnfsid.get(happening.target)
        return watchers is not None and any(w.is_armed(happening.source, happening.flag) for w in watchers)

    def accept(self, happening: Happening) -> None:
        """Give an event to every watch of its target."""
        watchers = list(self._by_pnfsid.get(happening.target, ()))
        payload = happening.payload()
        for selection in watchers:
            selection.accept(happening, payload)
        if happening.flag == "IN_DELETE_SELF":
            for selection in watchers:
                selection.request_close()

    def accept_overflow(self) -> None:
        """Tell every open subscription that a source's queue overflowed (section 3)."""
        for selection in list(self._by_key.values()):
            selection.accept_overflow()

    def _update_zookeeper(self) -> None:
        if self.switches.zookeeper_fails > 0:
            self.switches.zookeeper_fails -= 1
        elif len(self._by_pnfsid) <= self.switches.watch_limit:
            return
        raise ApiError(500, "Unexpected status: INTERNAL_ERROR")

    def _lookup(self, selector: Selector, login: Login) -> str:
        path = login.resolve(selector.path)
        if not login.permits("READ_METADATA", path):
            raise SelectorError("Permission denied", "Not allowed.")
        try:
            inode = self._namespace.find(path)
        except NoSuchFileError as error:
            raise SelectorError(
                "Not found", f"Problem with path: No such file or directory: {error}"
            ) from None
        if not inode.is_dir and "IN_ONLYDIR" in selector.flags:
            raise SelectorError("Failed condition", f"IN_ONLYDIR with {inode.kind} target")
        if not login.permits("LIST" if inode.is_dir else "DOWNLOAD", path):
            raise SelectorError("Permission denied", "Not allowed.")
        return inode.pnfsid


def _subscription_id(pnfsid: str, *, standard: bool) -> str:
    """Return base64 of the PNFS-ID, without padding; the alphabet depends on the version (section 1)."""
    raw = bytes.fromhex(pnfsid)
    encoded = base64.b64encode(raw) if standard else base64.urlsafe_b64encode(raw)
    return encoded.decode().rstrip("=")
