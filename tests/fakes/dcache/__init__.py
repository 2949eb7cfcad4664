"""A fake dCache frontend, written from dCache's sources; see shared/reference/dcache-events.md.

Run it by itself with ``python -m tests.fakes.dcache --port 3880``.
"""

from .auth import Directory
from .chaos import Chaos
from .server import FakeDcache
from .switches import Switches

__all__ = ["Chaos", "Directory", "FakeDcache", "Switches"]
