"""Durations, sizes and rates as people write them."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dcnios_daemon.core.units import (
    Duration,
    Rate,
    Size,
    duration,
    duration_text,
    rate,
    rate_text,
    size,
    size_text,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("0s", 0),
        (5, 5),
        ("5", 5),
        ("1.5h", 5400),
        ("2D", 172800),
    ],
)
def test_durations_are_seconds(written: object, seconds: float) -> None:
    assert duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "5 m", "m", "-5s", -1, "5x", "nan", "inf", True, None, [], "9" * 400, "1m5"]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no duration: write 30s, 5m, 1h30m or 2d"):
        duration(written)


@pytest.mark.parametrize(
    ("written", "amount"),
    [("2GiB", 2**31), ("10k", 10_000), ("1.5MiB", 1_572_864), (7, 7), ("7 B", 7), ("0", 0)],
)
def test_sizes_are_bytes(written: object, amount: int) -> None:
    assert size(written) == amount


def test_large_sizes_are_exact() -> None:
    assert size(str(2**62 + 1)) == 2**62 + 1


@pytest.mark.parametrize("written", ["", "GiB", "-1", -1, "2 gigs", True, None, "1e3", "0x10"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no size: write 512MiB, 2GiB or a number of bytes"):
        size(written)


@pytest.mark.parametrize(
    ("written", "per_second"),
    [("20/s", 20), ("30/m", 0.5), ("3600/h", 1), ("86400 / d", 1), (2, 2), ("0.5", 0.5)],
)
def test_rates_are_per_second(written: object, per_second: float) -> None:
    assert rate(written) == per_second


@pytest.mark.parametrize(
    "written", ["20 per second", "0/s", 0, -1, "-1/s", "20/w", "", "nan", "inf", True, None]
)
def test_what_is_no_rate_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no rate above zero: write 20/s, 90/m or 1000/h"):
        rate(written)


@given(st.floats(min_value=0, max_value=1e12))
def test_a_duration_is_written_so_that_it_is_read_back(seconds: float) -> None:
    assert duration(duration_text(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**63))
def test_a_size_is_written_so_that_it_is_read_back(amount: int) -> None:
    assert size(size_text(amount)) == amount


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_rate_is_written_so_that_it_is_read_back(per_second: float) -> None:
    assert rate(rate_text(per_second)) == per_second


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for read in (duration, size, rate):
        amount = 0.0
        with contextlib.suppress(ValueError):
            amount = read(text)
        assert amount >= 0


@pytest.mark.parametrize(
    ("kind", "value", "shown"), [(Duration, 90.0, "90s"), (Size, 2048, "2KiB"), (Rate, 0.25, "15/m")]
)
def test_settings_are_numbers_inside_and_texts_for_people(kind: Any, value: float, shown: str) -> None:
    adapter = TypeAdapter(kind)
    assert adapter.dump_python(value) == value
    assert adapter.dump_python(value, mode="json") == shown
