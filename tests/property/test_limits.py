"""Exactness of the rate as the neighbour sees it, whatever the delays between us."""

from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.dispatch.limits import TokenBucket
from tests.clocks import ManualClock

_STEPS = st.lists(
    st.tuples(
        st.floats(0, 3, allow_nan=False),  # how long we wait before this order
        st.floats(0, 5, allow_nan=False),  # how long its answer takes
        st.floats(0, 1, allow_nan=False),  # when within that the neighbour really creates it
    ),
    max_size=60,
)


@given(rate=st.floats(0.2, 50), burst=st.integers(1, 20), steps=_STEPS)
def test_in_no_window_the_neighbour_sees_more_than_burst_and_rate(
    rate: float, burst: int, steps: list[tuple[float, float, float]]
) -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate, burst, clock)
    answers: list[float] = []
    created: list[float] = []

    def pass_time(seconds: float) -> None:
        end = clock.monotonic() + seconds
        while answers and min(answers) <= end:
            due = min(answers)
            answers.remove(due)
            clock.pass_time(max(0.0, due - clock.monotonic()))
            bucket.answered()
        clock.pass_time(max(0.0, end - clock.monotonic()))

    for pause, latency, share in steps:
        pass_time(pause)
        if bucket.room() >= 1:
            bucket.take()
            created.append(clock.monotonic() + latency * share)
            answers.append(clock.monotonic() + latency)
    created.sort()
    for first, start in enumerate(created):
        for last in range(first, len(created)):
            seen = last - first + 1
            assert seen <= burst + rate * (created[last] - start) + 1e-6


@given(rate=st.floats(0.2, 50), burst=st.integers(1, 20))
def test_a_new_bucket_has_nothing_to_give(rate: float, burst: int) -> None:
    assert TokenBucket(rate, burst, ManualClock()).room() == 0


@given(rate=st.floats(0.2, 50), burst=st.integers(1, 20), lives=st.integers(1, 5))
def test_waiting_as_told_makes_room(rate: float, burst: int, lives: int) -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate, burst, clock)
    for _ in range(lives):
        wait = bucket.wait()
        assert wait is not None
        clock.pass_time(wait + 1e-6)
        assert bucket.room() >= 1
        bucket.take()
        bucket.answered()


def test_when_every_token_is_out_only_an_answer_makes_room() -> None:
    clock = ManualClock()
    bucket = TokenBucket(10, 2, clock)
    clock.pass_time(60)
    bucket.take(2)
    clock.pass_time(60)
    assert bucket.room() == 0
    assert bucket.wait() is None
    bucket.answered()
    assert bucket.wait() is not None


def test_a_larger_burst_is_no_gift_of_tokens() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1, 1, clock)
    bucket.change(1, 100)
    assert bucket.room() == 0
    clock.pass_time(3)
    assert bucket.room() == 3


def test_a_first_rate_is_no_gift_of_tokens() -> None:
    clock = ManualClock()
    bucket = TokenBucket(None, 20, clock)
    bucket.change(1, 5)
    assert bucket.room() == 0


def test_without_a_rate_there_is_always_room() -> None:
    bucket = TokenBucket(None, 1, ManualClock())
    bucket.take(1000)
    assert bucket.room() == float("inf")
