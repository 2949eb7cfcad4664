"""Waits for the end of the run that started it and removes what that run could not: `reaper <its folder>`."""

import fcntl
import sys
from pathlib import Path

from tests.servers.sweep import sweep


def main() -> None:
    """Blocks on standard input, whose other end only the run holds."""
    path = Path(sys.argv[1])
    sys.stdin.read()
    if path.exists():
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sweep(path)


if __name__ == "__main__":
    main()
