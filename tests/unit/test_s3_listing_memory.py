"""A listing keeps nothing of the objects. The figures for ten million are in docs/s3.md."""

import json
import subprocess
import sys

import pytest

from tests.daemon import REPOSITORY


@pytest.mark.parametrize("versions", ["1", "7"])
def test_memory_does_not_grow_with_the_bucket_and_one_call_lists_a_thousand(versions: str) -> None:
    command = [sys.executable, "-m", "tests.bench.listing_memory", "500000", versions]
    done = subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY, timeout=100)
    figures = json.loads(done.stdout)
    assert figures["calls"] == 500
    assert figures["found"] == 500
    assert figures["grown_mib"] < 12
