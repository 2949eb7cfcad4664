"""A flood on one route delays another by no more than its share: the bounds that ``fairness`` states."""

from collections import Counter

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st

from dcnios_daemon.dispatch.fairness import Share, Turns

ROUTES = ("a", "b", "c", "d")
_WEIGHTS = st.one_of(st.integers(1, 8).map(float), st.floats(0.01, 100))
_SHARES = st.fixed_dictionaries({route: st.builds(Share, _WEIGHTS, st.integers(0, 1)) for route in ROUTES})
_MOST = st.integers(1, 32)


class Step(msgspec.Struct, frozen=True):
    """Who could go at one moment, and how large the turn is then."""

    could: frozenset[str]
    size: float
    """The part of the largest turn."""


def _steps(phases: list[tuple[frozenset[str], list[float]]]) -> list[Step]:
    return [Step(could, size) for could, sizes in phases for size in sizes]


_STEPS = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from(ROUTES), min_size=1),
        st.one_of(
            st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 40).map(lambda n: [1.0] * n)
        ),
    ),
    max_size=8,
).map(_steps)
"""For some time these routes could go, then those."""


def _turns(shares: dict[str, Share], most: int, steps: list[Step]) -> list[tuple[Step, str, int]]:
    """Play it: each step with the route that went, and with how many orders."""
    turns, played = Turns(shares), []
    for step in steps:
        route = turns.next(sorted(step.could))
        assert route is not None
        orders = 1 + int(step.size * (most - 1))
        turns.went(route, orders)
        played.append((step, route, orders))
    return played


def _waits(played: list[tuple[Step, str, int]], route: str) -> list[list[tuple[str, int]]]:
    """The times during which the route could always go: who went then, and with how many orders."""
    waits: list[list[tuple[str, int]]] = [[]]
    for step, went, orders in played:
        if route in step.could:
            waits[-1].append((went, orders))
        elif waits[-1]:
            waits.append([])
    return waits


@given(shares=_SHARES, most=_MOST, steps=_STEPS)
def test_a_flood_delays_another_by_no_more_than_its_share(
    shares: dict[str, Share], most: int, steps: list[Step]
) -> None:
    played = _turns(shares, most, steps)
    for route, share in shares.items():
        for wait in _waits(played, route):
            had = Counter[str]()
            for went, orders in wait:
                if went == route:
                    event("a turn")
                    for other in ROUTES:
                        if shares[other].priority == share.priority and other != route:
                            bound = most + (had[route] + most) * shares[other].weight / share.weight
                            assert had[other] <= bound + 1e-6
                had[went] += orders


@given(shares=_SHARES, most=_MOST, steps=_STEPS)
def test_two_floods_are_never_further_apart_than_a_turn_of_each(
    shares: dict[str, Share], most: int, steps: list[Step]
) -> None:
    """Whatever others do, and however often."""
    both = frozenset({"a", "b"})
    shares = {**shares, "b": msgspec.structs.replace(shares["b"], priority=shares["a"].priority)}
    had = Counter[str]()
    steps = [msgspec.structs.replace(step, could=step.could | both) for step in steps]
    a, b = shares["a"].weight, shares["b"].weight
    for _, went, orders in _turns(shares, most, steps):
        had[went] += orders
        assert abs(had["a"] / a - had["b"] / b) <= most / a + most / b + 1e-6


@given(shares=_SHARES, most=_MOST, steps=_STEPS)
def test_a_lower_priority_goes_only_where_no_higher_one_could(
    shares: dict[str, Share], most: int, steps: list[Step]
) -> None:
    for step, went, _ in _turns(shares, most, steps):
        assert shares[went].priority == max(shares[route].priority for route in step.could)


@given(shares=_SHARES, most=_MOST, before=_STEPS, after=_STEPS, priority=st.integers(-1, 2))
def test_a_new_share_gives_no_arrears(
    shares: dict[str, Share], most: int, before: list[Step], after: list[Step], priority: int
) -> None:
    """A route that a reload gives another priority competes there from now on, as a new one would."""
    turns = Turns(shares)
    for step in before:
        route = turns.next(sorted(step.could))
        assert route is not None
        turns.went(route, most)
    shares = {route: msgspec.structs.replace(share, priority=priority) for route, share in shares.items()}
    turns.change(shares)
    had = Counter[str]()
    for _ in after:
        route = turns.next(ROUTES)
        assert route is not None
        turns.went(route, most)
        had[route] += most
    for one in ROUTES:
        for other in ROUTES:
            apart = abs(had[one] / shares[one].weight - had[other] / shares[other].weight)
            assert apart <= 2 * (most / shares[one].weight + most / shares[other].weight) + 1e-6
