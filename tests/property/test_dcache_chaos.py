"""Whatever goes wrong in dCache, on the network or with the daemon: an upload is one event, nothing else is.

One seed alone, with the log of what was done: ``DCNIOS_SEED=17 pytest tests/property/test_dcache_chaos.py``;
others than the usual ones: ``DCNIOS_SEEDS=1000-3000``.
"""

import os
import random
from collections.abc import Iterator

import aiohttp
import pytest

from dcnios_daemon.sources.dcache.client import login
from tests.fakes.dcache import wire
from tests.property.dcache_chaos import Run

_BLOCK = 20


def _blocks() -> list[range]:
    if (one := os.environ.get("DCNIOS_SEED")) is not None:
        return [range(int(one), int(one) + 1)]
    first, end = map(int, os.environ.get("DCNIOS_SEEDS", "0-520").split("-"))
    return [range(start, min(start + _BLOCK, end)) for start in range(first, end, _BLOCK)]


@pytest.fixture(autouse=True)
def _no_trust_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reading the system's certificates for each of ten thousand connections is most of the time."""
    monkeypatch.setattr(login, "tls", lambda _: None)
    yield
    random.seed()


@pytest.mark.parametrize("seeds", _blocks(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_upload_is_one_event_whatever_happens(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [story for seed in seeds if (story := _story_of_failure(seed, monkeypatch))]
    assert not failed, "\n\n".join(failed)


def _story_of_failure(seed: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty if all went well."""
    random.seed(seed)
    run = Run(seed)
    monkeypatch.setattr(aiohttp, "TCPConnector", wire.connector(run.wire))
    faults = wire.run(run.play())
    if not faults:
        return ""
    repeat = f"DCNIOS_SEED={seed} .venv/bin/python -m pytest {os.path.relpath(__file__)}"
    return "\n".join([f"seed {seed}: {repeat}", *faults, run.story()])
