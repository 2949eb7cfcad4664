from collections import Counter

from dcnios_daemon.dispatch.fairness import Turns


def test_weights_share_the_turns() -> None:
    turns = Turns({"a": 1, "b": 3})
    went = Counter[str]()
    for _ in range(400):
        route = turns.next(["a", "b"])
        assert route is not None
        went[route] += 1
        turns.went(route, 1)
    assert went == {"a": 100, "b": 300}


def test_a_route_that_slept_cannot_save_up_turns() -> None:
    turns = Turns({"busy": 1, "sleeper": 1})
    for _ in range(1000):
        turns.went("busy", 1)
    went = Counter[str]()
    for _ in range(20):
        route = turns.next(["busy", "sleeper"])
        assert route is not None
        went[route] += 1
        turns.went(route, 1)
    assert abs(went["busy"] - went["sleeper"]) <= 1


def test_nobody_to_go() -> None:
    assert Turns({"a": 1}).next([]) is None
