"""The job sink on a real cluster with a node that runs pods."""

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from msgspec.structs import replace

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnavailable
from dcnios_daemon.core.ports import Failure, Order, Outcome, State, Upload
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.job.sink import JobPlan, JobRun, JobSink
from dcnios_daemon.sinks.kubernetes import ended_pods
from dcnios_daemon.sinks.spec import SinkContext
from tests.daemon import daemon, eventually
from tests.fakes.desk import FakeDesk, flying, make_order
from tests.servers.access import ClusterAccess
from tests.servers.fixtures import ClusterNode
from tests.servers.kubernetes import ControlPlane
from tests.servers.workspace import Workspace

PAUSE = "sleep 300 & trap 'kill $!' TERM; wait"


class NoStore:
    """Gives leave that leads nowhere."""

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        return Upload(method="PUT", url="file:///proc/no-such-folder/")


class Site:
    """A sink on a namespace of its own."""

    def __init__(self, access: ClusterAccess, namespace: str, image: str = "none") -> None:
        self.access = access
        self.namespace = namespace
        self.image = image
        self.desk = FakeDesk()
        self.sink = self.new_life()

    def new_life(self) -> JobSink:
        settings = KubernetesSettings(
            kubeconfig=self.access.kubeconfig, namespace=self.namespace, staging_image=self.image
        )
        context = SinkContext(
            instance=self.namespace,
            state=Path(),
            stores={"nowhere": NoStore()},  # type: ignore[dict-item]
            clock=SystemClock(),
            kubernetes=settings,
        )
        self.sink = JobSink(context)
        return self.sink

    def plan(self, route: str = "gray", **run: Any) -> JobPlan:
        return self.sink.plan(route, JobRun(**{"image": self.image, "deadline": 120, **run}))

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.sink.serve(self.desk, ready.set))
                await asyncio.wait_for(ready.wait(), 60)
                yield
                task.cancel()
        finally:
            await self.sink.aclose()

    async def run(self, order: Order, **run: Any) -> Outcome:
        plan = self.plan(order.route, **run)
        async with self.served():
            await plan.submit(order)
            return await self.desk.outcome(order.name, seconds=90)

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        group = "/apis/batch/v1" if path.startswith("jobs") else "/api/v1"
        where = f"{group}/namespaces/{self.namespace}/{path}"
        return await asyncio.to_thread(self.access.call, method, where, body)

    async def names(self, what: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.call("GET", what))["items"]]

    async def count(self, what: str) -> int:
        return len(await self.names(what))


@pytest_asyncio.fixture
async def site(kubernetes: ClusterAccess, namespace: str) -> AsyncIterator[Site]:
    """Makes Jobs; suspended ones, since there may be no node."""
    made = Site(kubernetes, namespace)
    yield made
    await made.sink.aclose()


@pytest_asyncio.fixture
async def node(cluster_node: ClusterNode, namespace: str) -> AsyncIterator[Site]:
    """Runs pods."""
    made = Site(cluster_node.access, namespace, cluster_node.image)
    yield made
    await made.sink.aclose()


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Look at the cluster until it is so."""
    async with asyncio.timeout(60):
        while not await look():  # noqa: ASYNC110 - the cluster has no event for a test to wait for
            await asyncio.sleep(0.1)


# --- making Jobs --------------------------------------------------------------------------------------


async def test_one_order_is_one_job_however_often_it_is_submitted(site: Site) -> None:
    plan, order = site.plan(suspend=True), make_order()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(plan.submit(order))
    await plan.submit(order)
    assert await site.count("jobs") == 1


async def test_a_foreign_job_of_that_name_is_not_taken_for_ours(site: Site) -> None:
    plan, order = site.plan(suspend=True), make_order()
    body = await plan.render(order)
    body["metadata"]["labels"]["dcnios-daemon/key"] = "0" * 40
    await site.call("POST", "jobs", body)
    with pytest.raises(OrderRefused, match="not ours"):
        await plan.submit(order)


@asynccontextmanager
async def _no_more_jobs(site: Site) -> AsyncIterator[None]:
    """A policy of the cluster's that refuses Jobs in the namespace from now on."""
    where, name = "/apis/admissionregistration.k8s.io/v1", f"{site.namespace}-no-jobs"
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    here = {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "false", "message": "no more Jobs"}],
        },
    }
    binding = {
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": here},
        },
    }
    made = {"validatingadmissionpolicies": policy, "validatingadmissionpolicybindings": binding}
    for kind, body in made.items():
        await asyncio.to_thread(site.access.call, "POST", f"{where}/{kind}", body)
    try:
        yield
    finally:
        for kind in made:
            await asyncio.to_thread(site.access.call, "DELETE", f"{where}/{kind}/{name}")


async def test_an_order_may_be_refused_although_it_exists_and_then_it_can_be_seen(site: Site) -> None:
    """Policies are asked before the name is looked at: whoever lost the first answer gets a refusal."""
    plan, there, never = site.plan(suspend=True), make_order("a"), make_order("b")
    await plan.submit(there)

    async def refused() -> bool:
        try:
            await plan.submit(there)
        except OrderRefused as error:
            return "no more Jobs" in str(error)
        return False

    async with _no_more_jobs(site):
        await until(refused)
        with pytest.raises(OrderRefused, match="no more Jobs"):
            await plan.submit(never)
        assert await plan.exists(there)
        assert not await plan.exists(never)


async def test_a_full_quota_is_a_reason_to_wait(site: Site) -> None:
    hard = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"count/jobs.batch": "1"}},
    }
    await site.call("POST", "resourcequotas", hard)
    plan = site.plan(suspend=True)
    # It holds once the API server has heard of it.
    async with asyncio.timeout(60):
        for number in range(1000):
            try:
                await plan.submit(make_order(f"{number}"))
            except SinkBusy as busy:
                if "exceeded quota" in str(busy):
                    return
    raise AssertionError("no quota was ever exceeded")


async def test_a_job_that_the_api_server_finds_wrong_is_refused_with_its_words(site: Site) -> None:
    with pytest.raises(OrderRefused, match=r"spec\.template\.spec\.containers"):
        await site.plan(suspend=True, pod={"containers": [{"name": "Not A Name", "image": "i"}]}).submit(
            make_order()
        )


async def test_a_namespace_that_is_not_there_is_refused(kubernetes: ClusterAccess) -> None:
    site = Site(kubernetes, "no-such-namespace")
    with pytest.raises(OrderRefused, match="no-such-namespace"):
        await site.plan().submit(make_order())
    await site.sink.aclose()


async def test_a_user_without_rights_is_refused_and_one_without_a_name_waits(
    site: Site, tmp_path: Path
) -> None:
    config = json.loads(site.access.kubeconfig.read_text())
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    await site.call("POST", "serviceaccounts", account)
    token = await site.call(
        "POST",
        "serviceaccounts/nobody/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    for text, error, said in (
        (token["status"]["token"], OrderRefused, "nobody"),
        ("wrong", SinkUnavailable, "Unauthorized"),
    ):
        config["users"][0]["user"]["token"] = text
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        other = Site(ClusterAccess(site.access.url, text, site.access.ca, path), site.namespace)
        with pytest.raises(error, match=said):
            await other.plan().submit(make_order())
        await other.sink.aclose()


async def test_the_largest_payload_makes_a_job(site: Site) -> None:
    plan, order = site.plan(suspend=True), make_order(payload=os.urandom(1024 * 1024))
    await plan.submit(order)
    await plan.submit(order)
    secret = await site.call("GET", f"secrets/{order.name}")
    job = await site.call("GET", f"jobs/{order.name}")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


# --- what a container sees ----------------------------------------------------------------------------

ODD = "a\r\nb\rc\n\n\u2028\u2029\ufeff\ufffe é 🎉 '\"\\ `$(date)` $(HOME) $$ $(EVENT) %s\t\x01\x7f\n".encode()
PAYLOADS = {
    "nothing": b"",
    "odd": ODD,
    "nul": b"a\0b",
    "no-text": bytes(range(256)),
    "env-limit": b"x" * 65536,
    "above-env": b"y" * 65537,
    "annotation-limit": "é".encode() * 102400,
    "above-annotation": b"z" * (200 * 1024 + 1),
    "all-escaped": bytes(range(1, 32)) * 6000,
    "kafka-largest": os.urandom(1_000_000),
}
SHOW = """
sha256sum < "$DCNIOS_EVENT_FILE" | cut -c1-64
if [ "${EVENT+set}" ]; then printf %s "$EVENT" | sha256sum | cut -c1-64; else echo none; fi
printf '%s|' "$STORAGE_OBJECT_KEY" "$EVENT_TIME" "$DCNIOS_ROUTE" "$DCNIOS_KEY" "$DCNIOS_ATTEMPT" "$MINE"
touch "$TMP_OUTPUT_DIR/can-write"
exit 9
"""


@pytest.mark.timeout(180)
async def test_payloads_and_variables_arrive_byte_for_byte(node: Site) -> None:
    plan = node.plan(
        script=SHOW, env={"MINE": "{{ event.name }} $(EVENT_TIME) $$"}, resources={"memory": "64Mi"}
    )
    name = "a $(EVENT_TIME) $$ '\" é🎉\n+%#.png"
    orders = {
        case: make_order(f"{case}", payload=payload, subject=f"inbox/x/{name}")
        for case, payload in PAYLOADS.items()
    }
    async with node.served():
        for order in orders.values():
            await plan.submit(order)
        found = {case: await node.desk.outcome(order.name, seconds=120) for case, order in orders.items()}
    for case, payload in PAYLOADS.items():
        file, variable, rest = found[case].log_tail.split("\n", 2)
        digest = hashlib.sha256(payload).hexdigest()
        has_variable = len(payload) <= 65536 and b"\0" not in payload and case != "no-text"
        assert (found[case].exit_code, file) == (9, digest), case
        assert variable == (digest if has_variable else "none"), case
        told = [
            f"x/{name}",
            "1970-01-01T00:00:00.000Z",
            "gray",
            orders[case].key,
            "1",
            f"{name} $(EVENT_TIME) $$",
        ]
        assert rest == "|".join([*told, ""]), case


# --- how runs end -------------------------------------------------------------------------------------


async def test_success(node: Site) -> None:
    found = await node.run(make_order(), script="echo fine")
    assert found.succeeded
    assert (found.exit_code, found.node, found.log_tail) == (0, "127.0.0.1", "")
    assert found.started
    assert found.ended
    assert found.pod


async def test_a_finished_job_goes_with_its_secret_and_is_told_once(node: Site) -> None:
    plan, order = node.plan(script="true"), make_order(payload=b"\xff")
    async with node.served():
        await plan.submit(order)
        await node.desk.outcome(order.name, seconds=60)
        await node.call("PATCH", f"jobs/{order.name}", {"spec": {"ttlSecondsAfterFinished": 0}})

        async def gone() -> bool:
            return not await node.count("jobs") and order.name not in await node.names("secrets")

        await until(gone)
        later = make_order("later")
        await plan.submit(later)
        await node.desk.outcome(later.name, seconds=60)
    assert len(node.desk.of(order.name)) == 1


async def test_a_failed_script_keeps_its_exit_code_and_nothing_is_staged_out(node: Site) -> None:
    outs = {"x": {"to": "s3://b/", "using": "nowhere"}}
    order = make_order()
    found = await node.run(order, script="set -e\necho first\n(exit 7)\necho never", stage_out=outs)
    assert (found.failure, found.exit_code, found.log_tail) == (Failure.SCRIPT, 7, "first\n")
    pod = await node.call("GET", f"pods/{found.pod}")
    assert "terminated" not in pod["status"]["containerStatuses"][0]["state"]


async def test_failed_staging_says_so_and_is_no_script_failure(node: Site) -> None:
    outs = {"x": {"to": "s3://b/", "using": "nowhere"}}
    found = await node.run(make_order(), script="echo > $TMP_OUTPUT_DIR/x; sleep 0.1", stage_out=outs)
    assert found.failure is Failure.INFRASTRUCTURE
    assert "stage-out failed" in found.message
    assert "dcnios stage out" in found.log_tail


async def test_a_log_that_the_status_does_not_hold_is_fetched(node: Site) -> None:
    policy = {"containers": [{"name": "run", "terminationMessagePolicy": "File"}]}
    found = await node.run(make_order(), script="seq 2000; exit 3", pod=policy)
    assert found.exit_code == 3
    assert found.log_tail.endswith("1999\n2000\n")
    assert len(found.log_tail) <= 2048


async def test_out_of_memory_and_a_missing_command_have_names(node: Site) -> None:
    eat = "exec python3 -c 'bytearray(300_000_000)'"
    found = await node.run(make_order("oom"), script=eat, resources={"memory": "64Mi"})
    assert (found.failure, found.reason) == (Failure.SCRIPT, "OOMKilled")
    node.new_life()
    found = await node.run(make_order("none"), command=["/no/such/program"])
    assert (found.failure, found.reason) == (Failure.SCRIPT, "StartError")
    assert "/no/such/program" in found.message


async def test_an_image_that_never_comes_ends_by_the_deadline_with_its_reason(
    node: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_pods, "SURVEY_SECONDS", 1.0)
    found = await node.run(make_order(), image="localhost/no-such:1", deadline="8s")
    assert found.failure is Failure.INFRASTRUCTURE
    assert "ImagePull" in found.message


async def test_a_run_that_finds_no_room_is_no_script_failure(
    node: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_pods, "SURVEY_SECONDS", 1.0)
    nowhere = {"nodeSelector": {"kubernetes.io/os": "plan9"}}
    found = await node.run(make_order(), script="true", pod=nowhere, deadline="8s")
    assert found.failure is Failure.INFRASTRUCTURE
    assert "Unschedulable" in found.message


async def test_a_run_that_takes_too_long_is_ended(node: Site) -> None:
    found = await node.run(make_order(), script=f"echo begun; {PAUSE}", deadline="4s")
    assert (found.failure, found.exit_code) == (Failure.DEADLINE, None)
    assert found.log_tail == "begun\n"


async def test_a_deleted_job_is_unknown_and_a_deleted_pod_is_no_script_failure(node: Site) -> None:
    job, pod = make_order("job"), make_order("pod")
    plan = node.plan(script=PAUSE)
    async with node.served():
        await plan.submit(job)
        await plan.submit(pod)
        label = f"pods?labelSelector=batch.kubernetes.io/job-name={pod.name}"

        async def runs() -> bool:
            found = (await node.call("GET", label))["items"]
            return bool(found) and found[0]["status"]["phase"] == "Running"

        await until(runs)
        found = (await node.call("GET", label))["items"]
        await node.call("DELETE", f"jobs/{job.name}?propagationPolicy=Foreground")
        await node.call("DELETE", f"pods/{found[0]['metadata']['name']}")
        assert (await node.desk.outcome(job.name, seconds=60)).failure is Failure.UNKNOWN
        assert (await node.desk.outcome(pod.name, seconds=60)).failure is Failure.INFRASTRUCTURE


async def test_suspended_jobs_are_told_from_running_ones_on_every_surface(
    tmp_path: Path, kubernetes: ClusterAccess, namespace: str
) -> None:
    job = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "suspend": True}
    settings = {
        "kubernetes": {"namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)},
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"keep": {"from": ["hooks"], "run": job}},
    }
    site = Site(kubernetes, namespace)
    async with daemon(tmp_path, settings) as process, aiohttp.ClientSession() as session:

        async def shown(count: int) -> bool:
            route = (await process.get("/api/v1/status"))["routes"]["keep"]
            async with session.get(f"{process.url}/metrics") as reply:
                metrics = await reply.text()
            told = f'dcnios_orders_suspended{{route="keep"}} {count}.0' in metrics
            return told and route["suspended"] == count

        assert await shown(0)
        for number in range(3):
            headers = {"ce-id": str(number), "ce-source": "/t", "ce-type": "t", "ce-specversion": "1.0"}
            async with session.post(f"{process.url}/sources/hooks", headers=headers, data=b"") as reply:
                assert reply.status == 200
        await eventually(lambda: shown(3), "three are suspended", within=60)
        first, second, _ = sorted(await site.names("jobs"))
        await site.call("PATCH", f"jobs/{first}", {"spec": {"suspend": False}})
        await eventually(lambda: shown(2), "one may run", within=60)
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        await eventually(lambda: shown(2), "a new life sees it, too", within=60)
        await site.call("PATCH", f"jobs/{first}", {"spec": {"suspend": True}})
        await eventually(lambda: shown(3), "the queue has taken it back", within=60)
        await site.call("DELETE", f"jobs/{second}")
        await eventually(lambda: shown(2), "what was deleted is not suspended", within=60)

        async def running() -> bool:
            return (await process.counts("keep")).get("running") == 2

        await eventually(running, "they count as running", within=60)
    await site.sink.aclose()


async def test_a_suspended_job_has_neither_ended_nor_failed(node: Site) -> None:
    """Kueue admits late, and takes its place away again from what runs."""
    flag = {
        "volumes": [{"name": "flag", "configMap": {"name": "flag", "optional": True}}],
        "containers": [{"name": "run", "volumeMounts": [{"name": "flag", "mountPath": "/flag"}]}],
    }
    order = make_order()
    plan = node.plan(script=f"test -e /flag/go && exit 5\n{PAUSE}", pod=flag, suspend=True)

    async def says(condition: str, status: str) -> bool:
        found = (await node.call("GET", f"jobs/{order.name}"))["status"].get("conditions", [])
        return (condition, status) in [(item["type"], item["status"]) for item in found]

    async def runs() -> bool:
        pods = (await node.call("GET", f"pods?labelSelector=batch.kubernetes.io/job-name={order.name}"))[
            "items"
        ]
        return [pod["status"]["phase"] for pod in pods] == ["Running"]

    async with node.served():
        await plan.submit(order)
        await until(lambda: says("Suspended", "True"))
        await node.call("PATCH", f"jobs/{order.name}", {"spec": {"suspend": False}})
        await until(runs)
        await node.call("PATCH", f"jobs/{order.name}", {"spec": {"suspend": True}})
        await until(lambda: says("Suspended", "True"))
        assert not node.desk.reports
        go = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flag"}, "data": {"go": ""}}
        await node.call("POST", "configmaps", go)
        await node.call("PATCH", f"jobs/{order.name}", {"spec": {"suspend": False}})
        found = await node.desk.outcome(order.name, seconds=90)
        assert (found.failure, found.exit_code) == (Failure.SCRIPT, 5)
        assert len(node.desk.reports) == 1


@pytest_asyncio.fixture
async def doomed(kubernetes: ClusterAccess) -> AsyncIterator[Site]:
    """With a namespace that the test deletes."""
    name = f"gone-{secrets.token_hex(4)}"
    await asyncio.to_thread(kubernetes.create_namespace, name)
    made = Site(kubernetes, name)
    yield made
    await made.sink.aclose()


async def test_when_its_namespace_is_deleted_what_was_in_it_is_unknown(doomed: Site) -> None:
    site, name = doomed, doomed.namespace
    plan, orders = site.plan(suspend=True), [make_order(f"{number}") for number in range(3)]
    async with site.served():
        for order in orders:
            await plan.submit(order)
        await asyncio.to_thread(site.access.call, "DELETE", f"/api/v1/namespaces/{name}")
        found = [await site.desk.outcome(order.name, seconds=90) for order in orders]
        assert {outcome.failure for outcome in found} == {Failure.UNKNOWN}
        with pytest.raises(OrderRefused, match=name):
            await plan.submit(make_order("later"))
    assert [len(site.desk.of(order.name)) for order in orders] == [1, 1, 1]


async def test_a_whole_manifest_runs(node: Site, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        """
        apiVersion: batch/v1
        kind: Job
        spec:
          template:
            spec:
              containers:
              - name: main
                image: IMAGE
                command: [/bin/sh, -c, 'echo "$FILE" $(cat $DCNIOS_EVENT_FILE); exit 4']
                env: [{name: FILE, value: "{{ event.name }}"}]
        """.replace("IMAGE", node.image)
    )
    plan = await asyncio.to_thread(node.sink.plan, "gray", JobRun(manifest=path, deadline=60))
    order = make_order("a b: c", payload=b"payload")
    async with node.served():
        await plan.submit(order)
        found = await node.desk.outcome(order.name, seconds=60)
    assert (found.exit_code, found.log_tail) == (4, "a b: c.png payload\n")


async def test_the_end_of_a_run_that_a_restart_missed_is_told_before_ready(node: Site) -> None:
    order, lost, never = make_order("ended"), make_order("lost"), make_order("never")
    await node.plan(script="exit 5").submit(order)

    async def failed() -> bool:
        return bool((await node.call("GET", f"jobs/{order.name}"))["status"].get("failed"))

    await until(failed)
    await node.sink.aclose()
    now = SystemClock().now()
    node.desk = FakeDesk(flying(order), flying(lost), flying(never, State.SUBMITTING, claimed=now - 1))
    node.new_life()
    node.plan()
    async with node.served():
        known = {outcome.order: outcome for outcome in node.desk.reports}
    assert (known[order.name].failure, known[order.name].exit_code) == (Failure.SCRIPT, 5)
    assert known[lost.name].failure is Failure.UNKNOWN
    assert node.desk.retracted == [never.name]


async def test_a_job_is_found_although_its_route_runs_otherwise_since_the_restart(node: Site) -> None:
    """And one that was never made, but whose Job would be gone by now, is not made anew."""
    ended, begun = make_order("ended", route="moved"), make_order("begun", route="moved")
    gone = make_order("gone", route="moved")
    plan = node.plan(route="moved", script="exit 5")
    await plan.submit(ended)
    await plan.submit(begun)
    await node.sink.aclose()
    now = SystemClock().now()
    node.desk = FakeDesk(
        flying(ended),
        flying(begun, State.SUBMITTING, claimed=now - 1),
        replace(flying(gone, State.SUBMITTING, claimed=now - 90), sink="job", keep=60.0),
    )
    node.new_life()
    node.plan(route="another", keep=3600)
    async with node.served():
        assert [(one.order, one.failure) for one in node.desk.of(gone.name)] == [(gone.name, Failure.UNKNOWN)]
        assert (await node.desk.outcome(ended.name, seconds=60)).exit_code == 5
        assert (await node.desk.outcome(begun.name, seconds=60)).exit_code == 5
    assert (node.desk.confirmed, node.desk.retracted) == ([begun.name], [])


# --- neighbours that go away --------------------------------------------------------------------------


@pytest.fixture
def control(workspace: Workspace) -> Iterator[ControlPlane]:
    with ControlPlane(workspace) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_outcomes_are_seen_through_a_restart_of_the_api_server(control: ControlPlane) -> None:
    await asyncio.to_thread(control.controller_manager.kill)  # the test says itself when Jobs end
    site = Site(control.access, "default")
    plan, orders = site.plan(suspend=True), [make_order(secrets.token_hex(4)) for _ in range(4)]
    ended, deleted, after, away = orders
    async with site.served():
        for order in (ended, deleted, after):
            await plan.submit(order)
        site.desk.flying = [flying(order) for order in (ended, deleted, after)]
        await asyncio.to_thread(control.api.kill)
        with pytest.raises(SinkUnavailable):
            await plan.submit(away)
        await asyncio.to_thread(control.api.start)
        await plan.submit(away)
        for order in (ended, after, away):
            await finish(site, order)
        await site.call("DELETE", f"jobs/{deleted.name}?propagationPolicy=Background")
        found = [await site.desk.outcome(order.name, seconds=90) for order in orders]
    assert [outcome.failure for outcome in found] == [None, Failure.UNKNOWN, None, None]
    assert [len(site.desk.of(order.name)) for order in orders] == [1, 1, 1, 1]


async def finish(site: Site, order: Order) -> None:
    """Say in the Job controller's place that the Job is complete."""
    now = "2026-11-23T10:00:00Z"
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "CompletionsReached",
            "lastTransitionTime": now,
            "lastProbeTime": now,
        }
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"conditions": conditions, "startTime": now, "completionTime": now, "succeeded": 1}
    await site.call("PATCH", f"jobs/{order.name}", {"spec": {"suspend": False}})
    await site.call("PATCH", f"jobs/{order.name}/status", {"status": status})
