"""How long is waited, and how seldom what goes on is said."""

from dcnios_daemon.core.patience import Seldom, pause_after
from tests.clocks import ManualClock


def test_pauses_double_up_to_the_longest_and_no_two_who_wait_come_back_together() -> None:
    for failures, ceiling in ((1, 2.0), (2, 4.0), (3, 8.0), (50, 10.0), (10_000, 10.0)):
        pauses = {pause_after(failures, first=2, most=10) for _ in range(50)}
        assert len(pauses) == 50
        assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)


def test_what_goes_on_is_said_at_once_and_then_seldom() -> None:
    clock = ManualClock()
    seldom, said = Seldom(clock, every=60), 0
    for _ in range(600):
        said += seldom.is_time()
        clock.pass_time(1)
    assert said == 10
    clock.pass_time(59)
    assert seldom.is_time()
    assert not seldom.is_time()
