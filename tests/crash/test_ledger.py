"""The judge of the storms: it must see every kind of broken promise, and none where there is none."""

import pytest

from tests.crash.ledger import Creation, Job, Ledger, Limit

NO_LIMIT = Limit(None, 1, None)


def _job(number: int, *, attempt: int = 1, created: int, ended: int | None, **more: object) -> Job:
    made = Job(
        name=f"r-{number}-{attempt}",
        route="r",
        mark=f"event-{number}",
        key=f"key-{number}",
        attempt=attempt,
        created=created,
        ended=ended,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def _judge(*jobs: Job, events: int, limit: Limit = NO_LIMIT, times: list[float] | None = None) -> set[str]:
    creations = [Creation(job.name, float(job.created)) for job in jobs]
    if times is not None:
        creations = [Creation(job.name, at) for job, at in zip(jobs, times, strict=True)]
    happened = {f"event-{number}": 1 for number in range(events)}
    return set(Ledger(happened, list(jobs), creations, {"": limit, "r": limit}).judge())


def test_one_job_each_and_another_after_a_failure_is_right() -> None:
    jobs = [
        _job(0, created=1, ended=3),
        _job(1, created=2, ended=4, failed=True),
        _job(1, attempt=2, created=5, ended=6),
    ]
    assert _judge(*jobs, events=2, limit=Limit(1, 2, 2)) == set()


def test_an_event_without_a_job_is_lost_and_so_is_one_whose_last_failed() -> None:
    assert _judge(_job(0, created=1, ended=2), events=2) == {"lost"}
    assert _judge(_job(0, created=1, ended=2, failed=True), events=1) == {"lost"}
    assert _judge(_job(0, created=1, ended=None), events=1) == {"lost"}


@pytest.mark.parametrize(
    "second",
    [
        _job(0, created=3, ended=4),
        _job(0, created=3, ended=4, name="r-another"),
        _job(0, attempt=2, created=3, ended=4),
        _job(0, created=3, ended=4, key="another"),
    ],
    ids=["the same again", "another name", "an attempt without a failure", "another key"],
)
def test_a_second_job_is_a_double(second: Job) -> None:
    assert _judge(_job(0, created=1, ended=2), second, events=1) == {"doubled"}


def test_an_attempt_before_the_failure_was_told_is_a_double() -> None:
    early = _job(0, attempt=2, created=2, ended=4)
    assert _judge(_job(0, created=1, ended=3, failed=True), early, events=1) == {"doubled"}


def test_one_too_many_at_once_is_seen() -> None:
    jobs = [_job(0, created=1, ended=4), _job(1, created=2, ended=5), _job(2, created=3, ended=6)]
    assert _judge(*jobs, events=3, limit=Limit(None, 1, 2)) == {"slots"}
    assert _judge(*jobs, events=3, limit=Limit(None, 1, 3)) == set()


def test_a_window_with_one_too_many_is_seen() -> None:
    jobs = [_job(number, created=number + 1, ended=9 + number) for number in range(4)]
    limit = Limit(2, 2, None)
    assert _judge(*jobs, events=4, limit=limit, times=[0.0, 0.0, 0.5, 1.0]) == set()
    assert _judge(*jobs, events=4, limit=limit, times=[0.0, 0.0, 0.5, 0.9]) == {"rate"}


def test_a_job_that_the_harness_did_not_see_is_its_own_fault() -> None:
    ledger = Ledger({}, [], [Creation("r-1", 1.0)], {})
    assert set(ledger.judge()) == {"harness"}


def test_a_creation_that_was_answered_with_a_timeout_counts_if_its_job_was_seen() -> None:
    made, not_made = Creation("r-0-1", 1.0, is_sure=False), Creation("r-1-1", 2.0, is_sure=False)
    ledger = Ledger({"event-0": 1}, [_job(0, created=1, ended=2)], [made, not_made], {})
    assert not ledger.judge()
    assert ledger.creations == [made]
