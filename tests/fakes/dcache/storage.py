"""What doors and pools do to files, each with the events that dCache sends for it (section 3, table)."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable

from .crowd import Crowd
from .namespace import (
    POOL,
    FileExistsInWayError,
    FileType,
    Inode,
    Namespace,
    NoSuchFileError,
    NotDirectoryError,
    join,
    now_ms,
    split,
)
from .notifier import Happening, Notifier, Source
from .switches import Switches

MODIFY_PERIOD = 10.0
UPLOAD_ATTRIBS = 2

Link = tuple[str, str]


class Upload:
    """One transfer into a file; pools remember parent and name as of the open (section 3)."""

    def __init__(self, storage: Storage, inode: Inode) -> None:
        """Open ``inode`` for writing."""
        self.inode = inode
        self._storage = storage
        self._link = storage.link(inode)
        self._parts: list[bytes] = []
        self._modified = float("-inf")
        self._open = True
        self._tell("IN_OPEN")

    def write(self, data: bytes) -> None:
        """Take bytes; IN_MODIFY comes at most every ten seconds."""
        self._parts.append(data)
        now = asyncio.get_running_loop().time()
        if data and now - self._modified >= MODIFY_PERIOD:
            self._modified = now
            self._tell("IN_MODIFY")

    def finish(self, *, quietly: bool = False) -> Inode:
        """Complete the file: name space first, then IN_CLOSE_WRITE (PR #4841), then IN_ATTRIB."""
        self._open = False
        self._storage.complete(self.inode, b"".join(self._parts))
        if not quietly:
            self._tell("IN_CLOSE_WRITE")
            if self.inode.attached():
                for _ in range(UPLOAD_ATTRIBS):
                    self._storage.tell(Source.PNFSMANAGER, self.inode, "IN_ATTRIB")
        return self.inode

    def abort(self) -> None:
        """Break off: IN_CLOSE_WRITE all the same, and no complete file (section 3)."""
        if not self._open:
            return
        self._open = False
        self._tell("IN_CLOSE_WRITE")
        if self.inode.attached() and not self._storage.switches.abort_leaves_entry:
            self._storage.delete(self.inode)

    def _tell(self, flag: str) -> None:
        self._storage.tell(Source.POOL, self.inode, flag, link=self._link)


class Storage:
    """Name space and pools together."""

    def __init__(
        self, namespace: Namespace, notifier: Notifier, switches: Switches, rng: random.Random
    ) -> None:
        self.namespace = namespace
        self.switches = switches
        self._notifier = notifier
        self._rng = rng

    def link(self, inode: Inode) -> Link | None:
        """Return the parent's id and the name, or None for what has no parent."""
        return None if inode.parent is None else (inode.parent.pnfsid, inode.name)

    def tell(self, source: Source, inode: Inode, flag: str, *, link: Link | None = None) -> None:
        """Send an event to the watchers of ``inode`` and of its parent."""
        self._notifier.notify(Happening(source, inode.pnfsid, flag, inode.is_dir))
        parent = link or self.link(inode)
        if parent is not None:
            self._notifier.notify(Happening(source, parent[0], flag, inode.is_dir, name=parent[1]))

    def mkdir(self, path: str, *, owner: int = 0, parents: bool = False) -> Inode:
        """Make a directory; with ``parents`` also what is missing above, and what exists is fine."""
        if parents and not split(path):
            return self.namespace.root
        if parents:
            self.mkdir(join(path, ".."), owner=owner, parents=True)
            if self.namespace.exists(path):
                return self.namespace.find(path)
        inode = self.namespace.create(path, FileType.DIR, owner=owner)
        self._created(inode, Source.PNFSMANAGER)
        return inode

    def begin(self, path: str, *, owner: int = 0) -> Upload:
        """Open a new file for writing; an existing one is deleted first (section 5, write-once)."""
        try:
            victim = self.namespace.find(path)
        except NoSuchFileError:
            pass
        else:
            if victim.is_dir:
                raise FileExistsInWayError(path)
            self.delete(victim)
        inode = self.namespace.create(path, FileType.REGULAR, owner=owner)
        self._created(inode, Source.PNFSMANAGER)
        return Upload(self, inode)

    def put(self, path: str, data: bytes, *, owner: int = 0) -> Inode:
        """Upload a whole file as a door does."""
        upload = self.begin(path, owner=owner)
        upload.write(data)
        return upload.finish()

    def put_srm(self, path: str, data: bytes, *, owner: int = 0) -> Inode:
        """Upload as SRM and xrootd with POSC do: only IN_MOVED_TO is seen (``MN.commitUpload``)."""
        parent, name = self.namespace.parent_of(path)
        inode = self.namespace.detached(name, owner=owner)
        self.complete(inode, data)
        self.namespace.attach(inode, path)
        self._moved("IN_MOVED_TO", (parent.pnfsid, name), inode, self._cookie())
        return inode

    def touch_nfs(self, path: str, *, owner: int = 0) -> Inode:
        """Make an empty file over NFS: no size, no replica, no IN_CLOSE_WRITE (section 3)."""
        inode = self.namespace.create(path, FileType.REGULAR, owner=owner)
        self._created(inode, Source.NFS)
        self.tell(Source.NFS, inode, "IN_ATTRIB")
        return inode

    def complete(self, inode: Inode, data: bytes) -> None:
        """Give ``inode`` its bytes, size and replica."""
        inode.data, inode.size, inode.locations = data, len(data), (POOL,)
        inode.mtime = inode.ctime = now_ms()
        inode.early_404 = self.switches.early_404
        inode.stale_stats = self.switches.stale_stats

    def move(self, source: str, target: str, *, overwrite: bool = True) -> Inode:
        """Rename; a victim gets no IN_DELETE (section 3, "rename over a file")."""
        inode = self.namespace.find(source)
        before = self.link(inode)
        if not overwrite and self.namespace.exists(target):
            raise FileExistsInWayError(target)
        if before is None:
            raise FileExistsInWayError(source)
        self.namespace.attach(inode, target)
        cookie = self._cookie()
        self._notifier.notify(Happening(Source.PNFSMANAGER, inode.pnfsid, "IN_MOVE_SELF", inode.is_dir))
        self._moved("IN_MOVED_FROM", before, inode, cookie)
        after = self.link(inode)
        if after is not None:
            self._moved("IN_MOVED_TO", after, inode, cookie)
        return inode

    def delete(self, inode: Inode) -> None:
        """Delete a file or an empty directory; IN_DELETE_SELF closes its watches."""
        before = self.link(inode)
        self.namespace.remove(inode)
        self._notifier.notify(Happening(Source.PNFSMANAGER, inode.pnfsid, "IN_DELETE_SELF", inode.is_dir))
        if before is not None:
            self._notifier.notify(
                Happening(Source.PNFSMANAGER, before[0], "IN_DELETE", inode.is_dir, name=before[1])
            )

    def delete_tree(self, inode: Inode) -> None:
        """Delete with everything below, the deepest first, as the WebDAV door does."""
        for child in list((inode.children or {}).values()):
            self.delete_tree(child)
        self.delete(inode)

    def flush(self, inode: Inode, *, keep_replica: bool = False) -> None:
        """Write to tape and drop the disk replica: a bare IN_ATTRIB (section 3)."""
        inode.on_tape = True
        if not keep_replica:
            inode.locations = ()
        self.tell(Source.PNFSMANAGER, inode, "IN_ATTRIB")

    def stage(self, inode: Inode) -> None:
        """Bring online from tape: a bare IN_ATTRIB."""
        inode.locations = (POOL,)
        self.tell(Source.PNFSMANAGER, inode, "IN_ATTRIB")

    def list(self, inode: Inode, first: int = 0, end: int | None = None) -> list[Inode]:
        """Return a directory's entries in no useful order, or a page of them; listing echoes as events
        (section 3)."""
        if inode.children is None:
            raise NotDirectoryError(inode.path())
        if isinstance(inode.children, Crowd):
            entries, first, end = inode.children.slice(first, end), 0, None
        else:
            entries = list(inode.children.values())
        if self.switches.shuffle_pages:
            self._rng.shuffle(entries)
        if self.switches.omit_entries > 0:
            entries = [entry for entry in entries if self._rng.random() >= self.switches.omit_entries]
        self.tell(Source.PNFSMANAGER, inode, "IN_OPEN")
        self.tell(Source.PNFSMANAGER, inode, "IN_CLOSE_NOWRITE")
        return entries[first:end]

    def opened_for_reading(self, inode: Inode) -> Callable[[], None]:
        """Tell of a read by a pool; the returned function tells of its end."""
        link = self.link(inode)
        self.tell(Source.POOL, inode, "IN_OPEN", link=link)
        self.tell(Source.POOL, inode, "IN_ACCESS", link=link)
        return lambda: self.tell(Source.POOL, inode, "IN_CLOSE_NOWRITE", link=link)

    def _created(self, inode: Inode, source: Source) -> None:
        link = self.link(inode)
        if link is not None:
            self._notifier.notify(Happening(source, link[0], "IN_CREATE", inode.is_dir, name=link[1]))

    def _moved(self, flag: str, link: Link, inode: Inode, cookie: str) -> None:
        self._notifier.notify(
            Happening(Source.PNFSMANAGER, link[0], flag, inode.is_dir, name=link[1], cookie=cookie)
        )

    def _cookie(self) -> str:
        """Return 22 characters of base64, as murmur3_128 makes them (section 3)."""
        return base64.b64encode(self._rng.randbytes(16)).decode().rstrip("=")
