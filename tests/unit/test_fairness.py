from collections import Counter

from dcnios_daemon.dispatch.fairness import Share, Turns


def test_weights_share_the_turns() -> None:
    turns = Turns({"a": Share(1), "b": Share(3)})
    went = Counter[str]()
    for _ in range(400):
        route = turns.next(["a", "b"])
        assert route is not None
        went[route] += 1
        turns.went(route, 1)
    assert went == {"a": 100, "b": 300}


def test_a_route_that_slept_cannot_save_up_turns() -> None:
    turns = Turns({"busy": Share(), "sleeper": Share()})
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
    assert Turns({"a": Share()}).next([]) is None


def test_an_urgent_route_goes_first_whatever_the_weights_and_returns_the_turn() -> None:
    turns = Turns({"bulk": Share(100), "urgent": Share(0.01, priority=1), "other": Share(100)})
    for _ in range(10):
        assert turns.next(["bulk", "urgent", "other"]) == "urgent"
        turns.went("urgent", 32)
    first = turns.next(["bulk", "other"])
    assert first is not None
    turns.went(first, 1)
    assert {first, turns.next(["bulk", "other"])} == {"bulk", "other"}
