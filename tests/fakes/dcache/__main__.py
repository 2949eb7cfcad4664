"""Run the fake dCache by itself: ``python -m tests.fakes.dcache --port 3880``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import tempfile
from pathlib import Path

from .auth import Directory
from .chaos import Chaos
from .server import FakeDcache
from .switches import add_flags, from_flags


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.dcache", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3880, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--tls", action="store_true", help="HTTPS with a certificate of a new CA of our own")
    parser.add_argument("--tls-dir", type=Path, help="where ca.pem etc. go (default: a new temporary folder)")
    parser.add_argument(
        "--user", action="append", default=[], metavar="NAME:PASSWORD[:UID]", help="accept only these"
    )
    parser.add_argument(
        "--bearer", action="append", default=[], metavar="TOKEN[:UID]", help="accept only these"
    )
    parser.add_argument(
        "--mkdir", action="append", default=[], metavar="PATH", help="make a directory at start"
    )
    parser.add_argument(
        "--crowd", action="append", default=[], metavar="PATH=COUNT", help="a directory of so many files"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes all ids (default: %(default)s)")
    parser.add_argument("--chaos", type=int, metavar="SEED", help="mix all misbehaviour, from this seed")
    add_flags(parser)
    return parser


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if not arguments.tls:
        return None
    from .tls import make  # noqa: PLC0415 - plain HTTP works without the cryptography package

    authority = make(arguments.tls_dir or Path(tempfile.mkdtemp(prefix="fake-dcache-")))
    print(f"fake dCache: trust {authority.ca_file}", flush=True)
    return authority.server_context(arguments.host)


async def _run(arguments: argparse.Namespace) -> None:
    directory = Directory()
    for text in arguments.user:
        directory.add_user(text)
    for text in arguments.bearer:
        directory.add_token(text)
    dcache = FakeDcache(
        switches=from_flags(arguments),
        directory=directory,
        chaos=None if arguments.chaos is None else Chaos(arguments.chaos),
        tls=_tls(arguments),
        port=arguments.port,
        seed=arguments.seed,
    )
    dcache.host = arguments.host
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with dcache:
        for path in arguments.mkdir:
            await dcache.mkdir(path)
        for text in arguments.crowd:
            path, _, count = text.rpartition("=")
            await dcache.crowd(path, int(count))
        print(f"fake dCache: REST {dcache.api}  WebDAV {dcache.dav}", flush=True)
        await stopped.wait()


def main() -> None:
    """Run until SIGINT or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(_parser().parse_args()))


if __name__ == "__main__":
    main()
