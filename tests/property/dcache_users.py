"""What users of dCache do in a chaos run: uploads of all sorts, renames, moves of directories, removals."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.fakes.dcache import Chaos, FakeDcache
from tests.fakes.dcache.namespace import Inode
from tests.fakes.dcache.storage import Upload

DIRECTORIES = ("/data", "/data/a", "/data/a/b", "/data/c", "/out", "/out/d")


class Users:
    """Changes the name space as the dice say, and remembers what was ever there.

    Args:
        dcache: What they use.
        chaos: Has its turn before each change.
        dice: Decides.
        say: Writes down what was done.
    """

    def __init__(
        self,
        dcache: FakeDcache,
        chaos: Chaos,
        dice: random.Random,
        *,
        say: Callable[[str], None],
    ) -> None:
        self.dcache = dcache
        self.paths: dict[str, set[str]] = {}
        """From a PNFS-ID to all paths that it ever had."""
        self.ever_complete: set[str] = set()
        self.may_change_directories = True
        self._chaos = chaos
        self._dice = dice
        self._say = say
        self._uploads: list[Upload] = []
        self._made = 0

    def finish_all(self) -> None:
        """Uploads under way come to their end."""
        while self._uploads:
            self._finish(self._uploads.pop())

    async def _shaken(self) -> None:
        """Chaos has its turn before each change."""
        await self._chaos.step(self.dcache)

    def _note(self, what: str) -> None:
        """Something has changed in the name space."""
        self._say(what)
        for inode in self.dcache.namespace.walk():
            if not inode.is_dir:
                self.paths.setdefault(inode.pnfsid, set()).add(inode.path())
                if inode.size is not None:
                    self.ever_complete.add(inode.pnfsid)

    def _somewhere(self) -> str:
        """A directory; mostly a watched one."""
        paths = [inode.path() for inode in self.dcache.namespace.walk() if inode.is_dir]
        watched = [path for path in paths if path.startswith("/data")]
        return self._dice.choice(watched if watched and self._dice.random() < 0.8 else paths or ["/data"])

    def _new(self) -> str:
        self._made += 1
        return f"{self._somewhere()}/f{self._made}"

    def _any_file(self) -> Inode | None:
        files = [inode for inode in self.dcache.namespace.walk() if not inode.is_dir]
        return self._dice.choice(files) if files else None

    def _any_directory(self) -> Inode:
        found = [i for i in self.dcache.namespace.walk() if i.is_dir and i.path() not in {"/data", "/out"}]
        return self._dice.choice(found) if found else self.dcache.storage.mkdir(f"/data/d{self._made}")

    async def upload(self) -> None:
        await self._shaken()
        path = self._new()
        self.dcache.storage.put(path, b"data")
        self._note(f"upload {path}")

    async def upload_srm(self) -> None:
        await self._shaken()
        path = self._new()
        self.dcache.storage.put_srm(path, b"data")
        self._note(f"srm {path}")

    async def upload_then_rename(self) -> None:
        await self._shaken()
        path = self._new()
        self.dcache.storage.put(f"{path}.part", b"data")
        self._note(f"upload {path}.part")
        await asyncio.sleep(self._dice.choice((0.0, 0.0, 0.3, 2.0)))
        await self._shaken()
        self.dcache.storage.move(f"{path}.part", path)
        self._note(f"rename to {path}")

    async def burst(self) -> None:
        """So many at once that small queues overflow."""
        await self._shaken()
        directory, srm = self._somewhere(), self._dice.random() < 0.5
        for _ in range(self._dice.randrange(5, 25)):
            self._made += 1
            put = self.dcache.storage.put_srm if srm else self.dcache.storage.put
            put(f"{directory}/f{self._made}", b"")
        self._note(f"burst into {directory}, up to f{self._made}")

    async def abort(self) -> None:
        await self._shaken()
        path = self._new()
        upload = self.dcache.storage.begin(path)
        self._note(f"begin {path}")
        await asyncio.sleep(self._dice.choice((0.0, 1.0, 20.0)))
        upload.abort()
        self._note(f"abort {path}")

    async def begin(self) -> None:
        """An upload that goes on while other things happen."""
        await self._shaken()
        path = self._new()
        self._uploads.append(self.dcache.storage.begin(path))
        self._note(f"begin {path}")

    async def come_to_an_end(self) -> None:
        await self._shaken()
        if self._uploads:
            self._finish(self._uploads.pop(self._dice.randrange(len(self._uploads))))

    def _finish(self, upload: Upload) -> None:
        """One that was deleted or overwritten meanwhile has no place any more."""
        if upload.inode.attached():
            upload.finish()
            self._note(f"finish {upload.inode.path()}")
        else:
            upload.abort()

    async def overwrite(self) -> None:
        await self._shaken()
        if (inode := self._any_file()) is not None:
            path = inode.path()
            self.dcache.storage.put(path, b"other")
            self._note(f"overwrite {path}")

    async def rename(self) -> None:
        """Within, in or out; to a new name or over another file. The end of an upload that is under way is
        then told under the old name."""
        await self._shaken()
        inode = self._any_file()
        if inode is None:
            return
        other = self._any_file()
        path, over = inode.path(), other is not None and other is not inode and self._dice.random() < 0.3
        target = other.path() if other is not None and over else self._new()
        self._move(path, target)

    async def move_directory(self) -> None:
        await self._shaken()
        self._made += 1
        self._move(self._any_directory().path(), f"{self._somewhere()}/d{self._made}")

    async def move_and_back(self) -> None:
        await self._shaken()
        path, away = self._any_directory().path(), f"/out/away{self._made}"
        self._move(path, away)
        await asyncio.sleep(self._dice.choice((0.0, 0.5, 20.0)))
        self._move(away, path)

    def _move(self, path: str, target: str) -> None:
        self.dcache.storage.move(path, target)
        self._note(f"move {path} to {target}")

    async def mkdir(self) -> None:
        """With a file in it at once."""
        await self._shaken()
        self._made += 1
        path = f"{self._somewhere()}/d{self._made}"
        self.dcache.storage.mkdir(path)
        self.dcache.storage.put(f"{path}/f", b"")
        self._note(f"mkdir {path} with f")

    async def delete(self) -> None:
        await self._shaken()
        is_file = not self.may_change_directories or self._dice.random() < 0.6
        inode = self._any_file() if is_file else self._any_directory()
        if inode is not None:
            path = inode.path()
            self.dcache.storage.delete_tree(inode)
            self._note(f"delete {path}")

    async def tape_or_touch(self) -> None:
        """What is no upload, and tells of itself all the same."""
        await self._shaken()
        inode = self._any_file()
        if inode is not None and inode.size is not None:
            self.dcache.storage.flush(inode)
            self._note(f"flush {inode.path()}")
        path = self._new()
        self.dcache.storage.touch_nfs(path)
        self._note(f"touch {path}")


HAPPENINGS: dict[str, tuple[Callable[[Users], Awaitable[None]], int]] = {
    "upload": (Users.upload, 6),
    "srm": (Users.upload_srm, 3),
    "temporary name": (Users.upload_then_rename, 3),
    "burst": (Users.burst, 3),
    "abort": (Users.abort, 2),
    "begin": (Users.begin, 2),
    "end": (Users.come_to_an_end, 3),
    "overwrite": (Users.overwrite, 2),
    "rename": (Users.rename, 3),
    "move directory": (Users.move_directory, 3),
    "there and back": (Users.move_and_back, 1),
    "mkdir": (Users.mkdir, 2),
    "delete": (Users.delete, 1),
    "tape": (Users.tape_or_touch, 1),
}
"""With how often each happens."""
OF_DIRECTORIES = {"move directory", "there and back"}
