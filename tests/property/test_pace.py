"""The limit for one neighbour, whatever it answers and when."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.dispatch import pace as module
from dcnios_daemon.dispatch.pace import Pace

MOST = 32
_ANSWERS = st.lists(
    st.tuples(
        st.integers(0, 40),  # how many more are sent before it, room permitting
        st.integers(0, 40),  # which of those on their way it is for
        st.floats(0, 5, allow_nan=False),  # seconds since the answer before
        st.sampled_from(["well", "well", "well", "fails", "withdrawn"]),
    ),
    max_size=120,
)


class Neighbour:
    """Submissions on their way to it, and a clock."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.now = 0.0
        self.on_their_way: list[tuple[object, float]] = []
        """Orders, and when each was sent."""

    def send(self, count: float = 1e9) -> None:
        """As many as there is room for."""
        while count >= 1 and self.pace.room() >= 1 and len(self.on_their_way) < MOST:
            count -= 1
            order = object()
            self.pace.chosen(order)
            self.on_their_way.append((order, self.now))

    def answers(self, how: str = "well", which: int = 0) -> None:
        order, sent = self.on_their_way.pop(which)
        if how == "well":
            self.pace.answered(order, "r", sent=sent, now=self.now)
        elif how == "fails":
            self.pace.failed(order, self.now)
        else:
            self.pace.withdrawn(order)

    def round_trip(self, seconds: float | Callable[[int], float]) -> None:
        """All there is room for are sent and answered."""
        self.send()
        took = seconds if isinstance(seconds, float) else seconds(len(self.on_their_way))
        self.now += took
        for _ in range(len(self.on_their_way)):
            self.answers()


@given(answers=_ANSWERS, most=st.integers(1, MOST), strict=st.booleans())
def test_the_limit_stays_within_its_bounds_and_somebody_may_always_go(
    answers: list[tuple[int, int, float, str]], most: int, strict: bool
) -> None:
    pace = Pace(most, strict=strict)
    neighbour = Neighbour(pace)
    for more, which, seconds, how in answers:
        neighbour.send(more)
        neighbour.now += seconds
        if neighbour.on_their_way:
            neighbour.answers(how, which % len(neighbour.on_their_way))
        assert 1 <= pace.limit <= most
        assert pace.unanswered <= len(neighbour.on_their_way)
        if not neighbour.on_their_way:
            assert pace.room() >= 1
        if strict:
            assert pace.room() + pace.unanswered <= max(pace.limit, pace.unanswered)


@given(lost=st.integers(1, MOST))
def test_many_failures_of_one_moment_count_once(lost: int) -> None:
    neighbour = Neighbour(Pace(MOST))
    for _ in range(20):
        neighbour.round_trip(0.01)
    assert neighbour.pace.limit == MOST
    neighbour.send()
    neighbour.now += 0.01
    for _ in range(lost):
        neighbour.answers("fails")
    while neighbour.on_their_way:
        neighbour.answers()  # what was sent before tells nothing of now
    assert neighbour.pace.limit == 1
    limits = []
    for _ in range(30):
        neighbour.round_trip(0.01)
        limits.append(neighbour.pace.limit)
    # Doubling up to half of what it was, then one by one.
    assert limits[:4] == [2, 4, 8, 16]
    assert all(later - earlier in {0, 1, 2} for earlier, later in pairwise(limits[3:]))
    assert limits[-1] == MOST - 1  # which made it fail
    neighbour.now += module.HOLD
    for _ in range(2):
        neighbour.round_trip(0.01)
    assert neighbour.pace.limit == MOST


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    neighbour = Neighbour(Pace(MOST))
    neighbour.round_trip(0.01)
    for _ in range(20):
        neighbour.send(1)
        neighbour.now += 0.01
        neighbour.answers()
    before = neighbour.pace.limit
    for _ in range(100):
        neighbour.send(1)
        neighbour.now += 0.01
        neighbour.answers()
    assert neighbour.pace.limit == before < MOST


@pytest.mark.parametrize(("base", "knee"), [(0.4, 4), (0.5, 8), (1.0, 2), (2.0, 1)])
def test_it_settles_near_the_knee(base: float, knee: int) -> None:
    """Beyond it more at once only take longer."""
    neighbour = Neighbour(Pace(MOST))
    limits = []
    for _ in range(300):
        neighbour.round_trip(lambda count: base * max(1.0, count / knee))
        limits.append(neighbour.pace.limit)
    settled = sorted(limits[50:])
    assert knee <= settled[len(settled) // 2] <= 2 * knee + 1
    assert settled[-1] <= 4 * knee + 1


def test_what_is_quick_is_not_slowed_although_more_at_once_take_longer() -> None:
    neighbour = Neighbour(Pace(MOST))
    for _ in range(200):
        neighbour.round_trip(lambda count: 0.002 * count)
    assert neighbour.pace.limit == MOST


def test_a_neighbour_that_is_slower_now_for_reasons_of_its_own_is_slowed_down_for_once() -> None:
    neighbour = Neighbour(Pace(MOST))
    for _ in range(50):
        neighbour.round_trip(0.05)
    limits = []
    for _ in range(50):
        neighbour.round_trip(0.6)
        limits.append(neighbour.pace.limit)
    assert min(limits) == MOST // 2
    assert limits[-1] == MOST


def test_an_old_low_water_mark_is_forgotten() -> None:
    """A limit that came down to one says nothing of whether more would help."""
    neighbour = Neighbour(Pace(2))
    for _ in range(20):
        neighbour.round_trip(0.05)
    neighbour.now += 2 * module.MEMORY
    for _ in range(20):
        neighbour.round_trip(0.8)
    assert neighbour.pace.limit == 2


def test_routes_with_more_to_do_for_each_order_do_not_look_like_trouble() -> None:
    """A Secret, a Job and the adoption take three calls where a Job alone takes one."""
    neighbour = Neighbour(Pace(MOST))
    for trip in range(400):
        neighbour.send()
        for number in range(len(neighbour.on_their_way)):
            order, sent = neighbour.on_their_way.pop(0)
            now = neighbour.now + (0.1 if number % 2 else 0.9)
            neighbour.pace.answered(order, "ab"[number % 2], sent=sent, now=now)
        neighbour.now += 1.0
        assert trip < 30 or neighbour.pace.limit == MOST


def test_where_answering_is_the_work_time_says_nothing() -> None:
    neighbour = Neighbour(Pace(16, strict=True, heeds_time=False))
    for trip in range(100):
        neighbour.round_trip(10.0 if trip % 20 > 10 else 0.01)
    assert neighbour.pace.limit == 16
