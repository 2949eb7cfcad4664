"""The mailbox between web requests and the journal."""

import asyncio

import pytest

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Reply
from dcnios_daemon.sources import inbound
from dcnios_daemon.sources.inbound import Mailbox


def event(name: str, size: int = 0) -> Event:
    return Event(
        key=event_key("hooks", name),
        source="hooks",
        kind="cloudevents",
        subject=name,
        action=Action.MESSAGE,
        time=0.0,
        data=b"x" * size,
    )


async def test_all_that_wait_at_one_moment_share_a_commit_and_are_answered_after_it() -> None:
    mailbox = Mailbox()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(mailbox.post([event(f"{number}")])) for number in range(50)]
        await asyncio.sleep(0)
        batch = await mailbox.collect()
        late = group.create_task(mailbox.post([event("late")]))
        await asyncio.sleep(0)
        assert len(batch.events) == 50
        assert not any(task.done() for task in waiting)
        mailbox.acknowledge(batch)
        await asyncio.wait(waiting)
        assert {task.result().status for task in waiting} == {200}
        assert not late.done()
        mailbox.acknowledge(await mailbox.collect())
    assert late.result().status == 200


async def test_a_cancelled_collect_takes_nothing() -> None:
    mailbox = Mailbox()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(mailbox.collect())
        await asyncio.sleep(0)
        posted = group.create_task(mailbox.post([event("a")]))
        await asyncio.sleep(0)
        reading.cancel()
        batch = await mailbox.collect()
        assert [each.subject for each in batch.events] == ["a"]
        mailbox.acknowledge(batch)
    assert posted.result().status == 200


async def test_a_request_without_events_waits_for_nobody() -> None:
    assert (await Mailbox().post([])).status == 200


def _is_busy(reply: Reply, why: str) -> bool:
    return reply.status == 503 and int(reply.headers["retry-after"]) > 0 and why in reply.body


async def test_more_than_can_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "MOST_WAITING", 2)
    mailbox = Mailbox()
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(mailbox.post([event(f"{number}")]))
        await asyncio.sleep(0)
        assert _is_busy(await mailbox.post([event("third")]), "2 requests")
        mailbox.acknowledge(await mailbox.collect())


async def test_so_are_more_bytes_than_may_wait_but_a_large_one_alone_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbound, "MOST_BYTES", 10)
    mailbox = Mailbox()
    for _ in range(2):  # what was answered weighs nothing any more
        async with asyncio.TaskGroup() as group:
            large = group.create_task(mailbox.post([event("large", 1000)]))
            await asyncio.sleep(0)
            assert _is_busy(await mailbox.post([event("small")]), "1000 bytes")
            mailbox.acknowledge(await mailbox.collect())
        assert large.result().status == 200


async def test_a_commit_that_takes_too_long_is_answered_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "PATIENCE", 0.01)
    mailbox = Mailbox()
    assert _is_busy(await mailbox.post([event("a")]), "within")
    async with asyncio.TaskGroup() as group:  # it does not wait on in the mailbox
        posted = group.create_task(mailbox.post([event("b")]))
        await asyncio.sleep(0)
        batch = await mailbox.collect()
        assert [each.subject for each in batch.events] == ["b"]
        mailbox.acknowledge(batch)
    assert posted.result().status == 200


async def test_a_pause_turns_requests_away_and_own_work_waits() -> None:
    mailbox = Mailbox()
    async with asyncio.TaskGroup() as group:
        posted = group.create_task(mailbox.post([event("told")]))
        own = group.create_task(mailbox.deliver([event("listed")], cursor="7"))
        await asyncio.sleep(0)
        mailbox.pause()
        assert _is_busy(await posted, "journal")
        assert _is_busy(await mailbox.post([event("later")]), "journal")
        assert not own.done()
        mailbox.resume()
        batch = await mailbox.collect()
        assert [each.subject for each in batch.events] == ["listed"]
        assert batch.cursor == "7"
        mailbox.acknowledge(batch)


async def test_closing_turns_all_away() -> None:
    mailbox = Mailbox()
    async with asyncio.TaskGroup() as group:
        in_hand = group.create_task(mailbox.post([event("in hand")]))
        await asyncio.sleep(0)
        await mailbox.collect()
        waiting = group.create_task(mailbox.post([event("waiting")]))
        own = group.create_task(_delivery_fails(mailbox))
        await asyncio.sleep(0)
        mailbox.close()
    assert _is_busy(in_hand.result(), "closed")
    assert _is_busy(waiting.result(), "closed")
    assert own.result()


async def _delivery_fails(mailbox: Mailbox) -> bool:
    with pytest.raises(Disconnected, match="closed"):
        await mailbox.deliver([event("own")])
    return True
