"""When what was given up incomplete is looked at again."""

import pytest

from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.unfinished import Unfinished
from dcnios_daemon.sources.dcache.watches import Place

HOUR, DAY = 3600.0, 86_400.0
TODAY = 1_800_000_000.0


def check(path: str, *, watch: str = "w") -> Check:
    return Check(place=Place("/d", watch), path=path, due=0.0, until=60.0, data=b"", id=7)


def entry(pnfsid: str, *, age: float = 0.0) -> Entry:
    return Entry(file_type="REGULAR", pnfsid=pnfsid, created=int((TODAY - age) * 1000))


def keep(unfinished: Unfinished, name: str, *, now: float = 0.0, **more: str) -> None:
    unfinished.keep(check(f"/d/{name}", **more), entry(name), now=now, today=TODAY + now)


def paths(unfinished: Unfinished, now: float) -> list[str]:
    return [each.path for each in unfinished.due(now)]


def test_it_is_looked_at_less_and_less_often_for_a_day() -> None:
    unfinished, now, looks = Unfinished(), 0.0, []
    keep(unfinished, "f")
    while unfinished:
        now = next(unfinished.next_due())
        (again,) = unfinished.due(now)
        assert again.id is None
        assert again.until > now
        looks.append(now)
        unfinished.keep(again, entry("f"), now=now, today=TODAY + now)
    pauses = [later - earlier for earlier, later in zip([0.0, *looks], looks, strict=False)]
    assert pauses[:7] == [60, 120, 240, 480, 960, 1800, 1800]
    assert set(pauses[7:]) == {1800}
    assert DAY <= looks[-1] < DAY + HOUR


def test_what_was_made_a_day_ago_is_not_kept_at_all() -> None:
    unfinished = Unfinished()
    unfinished.keep(check("/d/f"), entry("f", age=DAY), now=0.0, today=TODAY)
    assert not unfinished
    unfinished.keep(check("/d/f"), entry("f", age=-HOUR), now=0.0, today=TODAY)
    assert len(unfinished) == 1


def test_one_that_is_renamed_is_kept_once_under_its_last_name() -> None:
    unfinished = Unfinished()
    keep(unfinished, "f")
    unfinished.keep(check("/d/g"), entry("f"), now=1.0, today=TODAY)
    assert not unfinished.knows(entry("f"), "/d/f")
    assert unfinished.knows(entry("f"), "/d/g")
    assert paths(unfinished, 60.5) == []
    assert paths(unfinished, 61.0) == ["/d/g"]
    assert not unfinished


def test_the_one_kept_longest_is_forgotten_when_there_are_too_many() -> None:
    unfinished = Unfinished(most=2)
    for name in "abc":
        keep(unfinished, name)
    assert paths(unfinished, 60.0) == ["/d/b", "/d/c"]


def test_many_are_looked_at_by_the_handful() -> None:
    unfinished = Unfinished()
    for number in range(250):
        keep(unfinished, str(number))
    assert [len(paths(unfinished, 60.0)) for _ in range(4)] == [100, 100, 50, 0]


@pytest.mark.parametrize("number", [1, 250])
def test_an_end_under_a_name_that_is_gone_hurries_those_of_its_watch(number: int) -> None:
    unfinished = Unfinished()
    keep(unfinished, "other", watch="v")
    for each in range(number):
        keep(unfinished, str(each))
    unfinished.hurry("w", 5.0)
    assert len(paths(unfinished, 5.0)) == min(number, 100)
    unfinished.hurry("w", 6.0)
    assert paths(unfinished, 6.0) == []
    assert len(paths(unfinished, 15.0)) == min(number - min(number, 100), 100)
    assert "/d/other" in [path for _ in range(3) for path in paths(unfinished, 60.0)]


def test_what_is_complete_is_forgotten() -> None:
    unfinished = Unfinished()
    keep(unfinished, "f")
    unfinished.forget("f")
    assert not unfinished
    assert list(unfinished.next_due()) == []
