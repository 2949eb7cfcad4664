"""Starts the test bed and stays until it is interrupted: `python -m tests.servers`."""

import argparse
import fcntl
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tests.servers import debian, golang, image_store, kafka
from tests.servers.addresses import ENV_FILE, LOCK_FILE, STANDING
from tests.servers.cache import Cache
from tests.servers.commands import CommandError, MissingPartError
from tests.servers.process import StartError
from tests.servers.testbed import Part, Testbed
from tests.servers.workspace import Workspace

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _AlreadyRunningError(RuntimeError):
    pass


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Interrupts once: a second Ctrl-C must not stop the cleaning up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _only_one() -> Iterator[None]:
    STANDING.mkdir(exist_ok=True)
    with LOCK_FILE.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _AlreadyRunningError(f"it runs already; see {ENV_FILE}") from None
        try:
            yield
        finally:
            ENV_FILE.unlink(missing_ok=True)


def _stay() -> None:
    started = time.monotonic()
    print("test bed: starting; what this machine has not built yet takes some minutes", flush=True)
    with _only_one(), Workspace() as space, Testbed(space) as bed:
        bed.begin(*Part)
        bed.wait_for_all()
        ENV_FILE.touch(mode=0o600)
        ENV_FILE.write_text(bed.addresses.text())
        print(bed.addresses.text(), end="")
        print(f"test bed: ready after {time.monotonic() - started:.1f} s, {ENV_FILE} written;", end=" ")
        print(f"logs in {space.path}; Ctrl-C ends it", flush=True)
        threading.Event().wait()


def _prepare() -> None:
    """Builds everything, starts nothing: for a container image or a CI cache."""
    cache = Cache()
    golang.kubernetes(cache)
    golang.minio(cache)
    golang.kwok(cache)
    kafka.built(cache)
    debian.program(cache, "etcd", "etcd-server")
    image_store.built(cache)


def main() -> int:
    """Runs the command line; 1 says that something is missing or failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="only build what is not in the cache yet")
    arguments = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        _prepare() if arguments.prepare else _stay()
    except KeyboardInterrupt:
        print("test bed: stopped, nothing left behind", flush=True)
    except MissingPartError as error:
        print(f"test bed: this machine lacks {error}", file=sys.stderr)
        return 1
    except (CommandError, StartError, _AlreadyRunningError) as error:
        print(f"test bed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
