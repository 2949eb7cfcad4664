"""The gate: which level shuts it, which opens it, what it says."""

import asyncio

from dcnios_daemon.buffer.gate import WatermarkGate, Watermarks


def test_it_is_full_from_the_high_mark_until_the_low_one() -> None:
    marks = Watermarks(max_events=10, max_bytes=1000, resume_at=0.8)
    assert marks.look(9, 0) is None
    assert marks.look(10, 0) == "10 of 10 events, opens at 8"
    assert marks.look(9, 0) == "9 of 10 events, opens at 8"
    assert marks.look(8, 0) is None
    assert marks.look(9, 0) is None


def test_both_bounds_must_be_low_again() -> None:
    marks = Watermarks(max_events=1_000_000, max_bytes=1000, resume_at=0.8)
    assert marks.look(1_000_000, 1000) == (
        "1,000,000 of 1,000,000 events, opens at 800,000; 1,000 of 1,000 bytes, opens at 800"
    )
    assert marks.look(1, 900) == "900 of 1,000 bytes, opens at 800"
    assert marks.look(1, 800) is None


def test_a_bound_of_one_opens_when_empty() -> None:
    marks = Watermarks(max_events=1, max_bytes=1000, resume_at=0.8)
    assert marks.look(1, 0) is not None
    assert marks.look(0, 0) is None


async def test_coroutines_wait_for_it_to_open_and_to_shut() -> None:
    gate = WatermarkGate()
    await gate.wait_open()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        shut = group.create_task(gate.wait_shut())
        await asyncio.sleep(0)
        gate.set("full")
        await shut
        assert gate.reason == "full"
        opened = group.create_task(gate.wait_open())
        await asyncio.sleep(0)
        assert not opened.done()
        gate.set("nearly full")
        assert gate.reason == "nearly full"
        gate.set(None)
        await opened
    assert gate.reason is None
