"""The real daemon and a real API server in its bad hours.

What is asserted is what the site and its operator see: no attempt is burnt, nothing is lost or made twice,
the wait is shown with its reason, few lines are logged, and afterwards one asks before all do.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.daemon import DaemonProcess, daemon, eventually
from tests.fakes.api_front import ApiFront, Trouble, status
from tests.fakes.proxy import FaultyProxy
from tests.servers.access import ClusterAccess

EVENTS = 200


class Site:
    """A daemon that makes suspended Jobs in a namespace of its own."""

    def __init__(self, access: ClusterAccess, namespace: str, folder: Path) -> None:
        self.access = access
        self.namespace = namespace
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.daemon: DaemonProcess

    def reached_by(self, url: str, *, token_file: Path | None = None) -> None:
        """Write the daemon's kubeconfig."""
        config = json.loads(self.access.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = url
        if token_file is not None:
            config["users"][0]["user"] = {"tokenFile": str(token_file)}
        self.kubeconfig.write_text(json.dumps(config))

    @contextlib.asynccontextmanager
    async def run(self, **more: Any) -> AsyncIterator[None]:
        job = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "suspend": True}
        bad = job | {"labels": {"no": "label value: it has spaces"}}
        settings = {
            "kubernetes": {"namespace": self.namespace, "kubeconfig": str(self.kubeconfig)},
            "limits": {"rate": None, "in_flight": None},
            "sources": {"hooks": {"kind": "cloudevents"}},
            "routes": {
                "good": {"from": ["hooks"], "match": {"subject": "good/*"}, "run": job},
                "bad": {"from": ["hooks"], "match": {"subject": "bad/*"}, "run": bad},
                "template": {
                    "from": ["hooks"],
                    "match": {"subject": "template/*"},
                    "run": job | {"env": {"X": "{{ data.no.such.field }}"}},
                },
            },
            **more,
        }
        async with daemon(self.folder / "daemon", settings) as self.daemon:
            yield

    async def give(self, count: int = EVENTS, *, route: str = "good", start: int = 0) -> None:
        events = [
            {
                "specversion": "1.0",
                "id": f"{route}{n}",
                "source": "/t",
                "type": "t",
                "subject": f"{route}/{n}",
            }
            for n in range(start, start + count)
        ]
        headers = {"content-type": "application/cloudevents-batch+json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.daemon.url}/sources/hooks", headers=headers, data=json.dumps(events)
            ) as reply,
        ):
            assert reply.status == 200

    async def jobs(self) -> int:
        """As the API server itself says."""
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        return len((await asyncio.to_thread(self.access.call, "GET", path))["items"])

    async def until(self, state: str, count: int, *, route: str = "good", within: float = 60) -> None:
        async def enough() -> bool:
            return (await self.daemon.counts(route)).get(state, 0) >= count

        await eventually(enough, f"{count} {state} on {route}", within=within)

    async def until_trouble_is_shown(self, words: str) -> None:
        async def shown() -> bool:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.daemon.url}/readyz") as reply,
            ):
                said = await reply.json()
                wrong = reply.status == 503 and words in said["reasons"].get("sink job", "")
            found = await self.daemon.get("/api/v1/status")
            waits = all(words in str(route["waits"]) for route in found["routes"].values())
            return wrong and waits and words in str(found["reasons"]) and found["sinks"][0]["failures"] > 0

        await eventually(shown, f"readyz and status say {words!r}")

    async def check_nothing_was_burnt(self, count: int = EVENTS) -> None:
        await self.until("running", count)
        assert await self.jobs() == count
        found = (await self.daemon.get("/api/v1/deliveries?limit=1000&route=good"))["deliveries"]
        assert {item["attempt"] for item in found} == {1}
        assert not (await self.daemon.counts("good")).get("dead")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.daemon.url}/metrics") as reply,
        ):
            assert 'dcnios_sink_failures{neighbour="",sink="job"} 0.0' in await reply.text()
        await self.daemon.until_ready()

    def said(self, level: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self.daemon.log.read_text().splitlines())
        return [line for line in lines if line["level"] == level]

    def warnings(self) -> list[dict[str, Any]]:
        """But not that this machine is slow."""
        return [line for line in self.said("warning") if line["event"] != "submissions.slowed"]


@pytest.fixture
def site(kubernetes: ClusterAccess, namespace: str, tmp_path: Path) -> Site:
    return Site(kubernetes, namespace, tmp_path)


TROUBLES: dict[str, tuple[Trouble, str]] = {
    "429": (lambda _: status(429, "TooManyRequests", "too many requests", retry_after=1), "too many"),
    "503": (lambda _: status(503, "ServiceUnavailable", "etcd has no leader"), "no leader"),
    "500 that asks for time": (
        lambda _: status(500, "InternalError", "a webhook failed", retry_after=1),
        "a webhook failed",
    ),
    "garbage": (lambda _: web.Response(status=502, text="<html>bad gateway</html>"), "bad gateway"),
}


@pytest.mark.parametrize(("trouble", "words"), TROUBLES.values(), ids=TROUBLES.keys())
async def test_an_api_server_in_trouble_is_waited_for(site: Site, trouble: Trouble, words: str) -> None:
    front = ApiFront(site.access)
    async with front.listening():
        token = site.folder / "token"
        token.write_text("good")
        site.reached_by(front.url, token_file=token)
        async with site.run():
            front.trouble = trouble
            await site.give()
            await site.until_trouble_is_shown(words)

            async def asked_again() -> bool:
                return front.turned_away >= 5

            await eventually(asked_again, "it is asked again")
            assert front.turned_away <= 2 + 5  # the first ones, and then one by one
            assert max(front.most_at_once[2:], default=1) == 1
            front.trouble, asked = None, front.asked_for_jobs
            await site.check_nothing_was_burnt()
            assert [*front.most_at_once[asked : asked + 1]] == [1]
            assert max(front.most_at_once[asked : asked + 4]) <= 3
            assert [line["event"] for line in site.warnings()] == ["submissions.paused"]
            assert not site.said("error")


async def test_an_expired_token_is_read_again(site: Site) -> None:
    front = ApiFront(site.access)
    async with front.listening():
        token = site.folder / "token"
        token.write_text("good")
        site.reached_by(front.url, token_file=token)
        async with site.run():
            await site.give(10)
            await site.until("running", 10)
            front.tokens = {"new"}
            await site.give(EVENTS - 10, start=10)
            await site.until_trouble_is_shown("Unauthorized")
            token.write_text("new")
            await site.check_nothing_was_burnt()
            assert not site.said("error")


async def test_a_full_quota_is_waited_out(site: Site) -> None:
    quotas = f"/api/v1/namespaces/{site.namespace}/resourcequotas"
    hard = {"spec": {"hard": {"count/jobs.batch": "5"}}}
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, **hard}
    await asyncio.to_thread(site.access.call, "POST", quotas, body)

    async def counted() -> bool:
        found = await asyncio.to_thread(site.access.call, "GET", f"{quotas}/q")
        return "used" in found.get("status", {})

    await eventually(counted, "the quota is known")
    site.reached_by(site.access.url)
    async with site.run():
        await site.give(40)
        await site.until_trouble_is_shown("exceeded quota")
        await site.until("running", 5)
        assert await site.jobs() == 5
        await asyncio.to_thread(site.access.call, "DELETE", f"{quotas}/q")
        await site.check_nothing_was_burnt(40)
        assert not site.said("error")


@pytest.mark.parametrize("how", ["refused", "frozen and cut"])
async def test_an_api_server_that_cannot_be_reached_is_waited_for(site: Site, how: str) -> None:
    port = int(site.access.url.rpartition(":")[2])
    async with FaultyProxy(port) as proxy:
        site.reached_by(f"https://127.0.0.1:{proxy.port}")
        async with site.run():
            await site.give(EVENTS // 2)
            if how == "refused":
                async with proxy.refusing():
                    await site.give(EVENTS // 2, start=EVENTS // 2)
                    await site.until_trouble_is_shown("does not answer")
            else:
                with proxy.frozen():
                    await site.give(EVENTS // 2, start=EVENTS // 2)
                    await asyncio.sleep(1)  # requests are on their way: what hangs says nothing
                    proxy.cut()
                    await site.until_trouble_is_shown("does not answer")
            await site.check_nothing_was_burnt()
            assert len(site.warnings()) <= 10
            assert not site.said("error")


@pytest.mark.parametrize("poison", ["bad", "template"])
async def test_a_poisoned_route_does_not_slow_another(site: Site, poison: str) -> None:
    site.reached_by(site.access.url)
    async with site.run():
        await site.give(EVENTS, route=poison)
        await site.give()
        await site.check_nothing_was_burnt()
        await site.until("dead", EVENTS, route=poison)
        [state] = (await site.daemon.get("/api/v1/status"))["sinks"]
        assert state["failures"] == 0
        assert {line["event"] for line in site.warnings()} == {"deliveries.died"}
