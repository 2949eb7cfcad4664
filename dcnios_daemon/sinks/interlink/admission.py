"""Whether, and to which virtual node, an order may go now.

The plugin behind a node mixes jobs up that reach it at the same time, so that a node is sent one pod, and
the next one when the batch system is seen to have that (its pod bears ``JobID``). A node that is away, or
full, is sent none: what waits for it burns no attempt.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkBusy
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.sinks.interlink.doubt import Doubts
from dcnios_daemon.sinks.interlink.objects import VirtualNode, VirtualPod
from dcnios_daemon.sinks.interlink.settings import HOST_NAME, InterlinkRun
from dcnios_daemon.sinks.interlink.verdict import Standing, standing
from dcnios_daemon.sinks.kubernetes.mirror import Mirror
from dcnios_daemon.sinks.kubernetes.pauses import Pauses
from dcnios_daemon.sinks.kubernetes.watch import Collection
from dcnios_daemon.telemetry.events import SubmissionStuck, VirtualNodeAway, VirtualNodeReady
from dcnios_daemon.telemetry.metrics import VirtualNodeLevels

PATIENCE = 30.0
"""Seconds that a submission waits for its turn, or for room, at a node that is there. Then it makes room for
others and says what it waits for."""
AT_ONCE, ASK_AGAIN = 1.0, 15.0
"""Seconds after which it comes again; and after which a node that is away is asked for again."""
STUCK_AFTER = 600.0
"""Seconds after which a pod without ``JobID`` keeps the next one back no longer. The virtual kubelet itself
waits five minutes for a Secret that is missing."""
_REMEMBERED = 4096
_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"


class _Claim(msgspec.Struct):
    """An order on its way to the batch system."""

    node: str
    gpus: int
    since: float
    is_stuck: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where an order may go."""

    node: str
    is_new: bool
    """Whether it was not the order's already."""


class Admission:
    """Sees the virtual nodes and our pods there, and lets orders go.

    Args:
        session: The cluster.
        clock: Tells the time.
        selector: The label selector of our pods.
    """

    def __init__(self, session: ClusterSession, clock: Clock, *, selector: str) -> None:
        self._clock = clock
        self._changed = asyncio.Condition()
        self._nodes: Mirror[VirtualNode] = Mirror(
            Collection(session, clock, "nodes", VirtualNode, {}),
            Pauses(sink="interlink nodes", clock=clock),
            saw=self._saw_node,
            told=self._notify,
        )
        self._pods: Mirror[VirtualPod] = Mirror(
            Collection(
                session, clock, "pods", VirtualPod, {"labelSelector": selector, "fieldSelector": _ALIVE}
            ),
            Pauses(sink="interlink pods", clock=clock),
            saw=self._saw_pod,
            told=self._notify,
        )
        self._runs: dict[str, InterlinkRun] = {}
        self._claims: dict[str, _Claim] = {}
        self._waited: OrderedDict[str, str] = OrderedDict()
        """Jobs whose pod has not begun to run, and what it was waiting for when last seen."""
        self._away: dict[str, str] = {}
        self._doubts = Doubts(clock)
        self._levels = VirtualNodeLevels()
        self._added = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, route: str, run: InterlinkRun) -> None:
        """Watch the nodes that the route may go to. Routes may be compiled off the loop."""
        self._runs[route] = run
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._added.set)

    async def watch(self) -> None:
        """See nodes and pods until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._meet(), name="interlink-meet")
            group.create_task(self._nodes.watch(), name="interlink-nodes")
            group.create_task(self._pods.watch(), name="interlink-pods")

    async def let_go(self, run: InterlinkRun, order: str) -> Place:
        """Wait for a place, and take it. It is the order's until its pod is seen to be with the batch system,
        or :meth:`give_back`.

        Raises:
            SinkBusy: There is none now; says why.
        """
        why = ""
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                while True:
                    if (mine := self._claims.get(order)) is not None:
                        return Place(mine.node, is_new=False)
                    node, why = self._choose(run)
                    if node:
                        self._claims[order] = _Claim(node, run.resources.gpu, self._clock.monotonic())
                        return Place(node, is_new=True)
                    await self._changed.wait()
        except TimeoutError:
            raise SinkBusy(why, retry_after=AT_ONCE) from None

    async def give_back(self, order: str) -> None:
        """The order was not taken, or has ended: its place is free."""
        if self._claims.pop(order, None) is not None:
            await self._notify()

    def not_taken(self, node: str, *, refused: bool) -> None:
        """The node did not take a pod.

        Args:
            node: Its name.
            refused: By a word of the batch system, which is thus there.
        """
        (self._doubts.took if refused else self._doubts.failed)(node)

    def is_away(self, node: str) -> bool:
        """Whether the node takes no pods now, and tells nothing of those that it has."""
        known = self._nodes.items.get(node)
        return known is None or bool(known.trouble)

    async def sighted(self) -> None:
        """Return once the pods have been seen."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._pods.trouble)

    def may_live(self, order: str) -> bool:
        """Whether a pod of the order's Job is there still, on its way out or on a node that is away: then its
        job on the HPC may run. Before pods are seen, nobody knows: ask :meth:`sighted` first."""
        alive = (pod for pod in self._pods.items.values() if not pod.ended)
        return any(pod.job == order for pod in alive)

    def why_not_begun(self, order: str) -> str:
        """What its pod was waiting for when it was last seen; empty if it had begun. Asked once."""
        return self._waited.pop(order, "")

    # --- choosing ---------------------------------------------------------------------------------------

    def _choose(self, run: InterlinkRun) -> tuple[str, str]:
        """A node with room, or why there is none that is worth waiting for.

        Raises:
            SinkBusy: No node is, for longer than a moment.
        """
        if trouble := self._nodes.trouble or self._pods.trouble:
            return "", f"what is on the virtual nodes {trouble}"
        self._mark_stuck()
        known = [name for name, node in self._nodes.items.items() if is_meant(node, run)]
        if not known:
            wanted = ", ".join(f"{key}={value}" for key, value in run.selector.items())
            raise SinkBusy(f"there is no virtual node with {wanted}", retry_after=ASK_AGAIN)
        unfit = {name: self._unfit(name, run) for name in known}
        if all(unfit.values()):
            raise SinkBusy(_said(unfit), retry_after=ASK_AGAIN)
        full = {name: self._full(name, run) for name in known if not unfit[name]}
        free = [name for name in full if not full[name]]
        if not free:
            return "", _said({**unfit, **full})
        return min(free, key=lambda name: (-self._free_gpus(name), self._live(name), name)), ""

    def _unfit(self, name: str, run: InterlinkRun) -> str:
        """Why it takes nothing of the run's, for longer than a moment."""
        node = self._nodes.items[name]
        if run.resources.gpu > node.gpus:
            return f"has {node.gpus} GPUs, and the run takes {run.resources.gpu}"
        return node.trouble or self._doubts.about(name)

    def _full(self, name: str, run: InterlinkRun) -> str:
        """Why it takes no more just now."""
        gpus = self._nodes.items[name].gpus
        if run.resources.gpu > self._free_gpus(name):
            return f"is full: {self._free_gpus(name)} of {gpus} GPUs are free"
        if (live := self._live(name)) >= run.pods_per_node:
            return f"is full: {live} pods of ours live there"
        if any(claim.node == name and not claim.is_stuck for claim in self._claims.values()):
            return "has not yet given its last pod a JobID"
        return ""

    def _mark_stuck(self) -> None:
        alive = {pod.job for pod in self._pods.items.values()}
        for order, claim in list(self._claims.items()):
            age = self._clock.monotonic() - claim.since
            if age < STUCK_AFTER:
                continue
            if order not in alive:
                del self._claims[order]  # there is no pod, and perhaps there never was
            elif not claim.is_stuck:
                claim.is_stuck = True
                SubmissionStuck(node=claim.node, order=order, seconds=round(age)).emit()

    def _there(self, name: str) -> dict[str, int]:
        """The orders that live on a node, or are on their way there, and how many GPUs each takes."""
        claimed = {order: claim.gpus for order, claim in self._claims.items() if claim.node == name}
        alive = (pod for pod in self._pods.items.values() if not pod.ended)
        pods = (pod for pod in alive if pod.spec.node_name == name)
        return claimed | {pod.job: pod.gpus for pod in pods}

    def _live(self, name: str) -> int:
        return len(self._there(name))

    def _free_gpus(self, name: str) -> int:
        return self._nodes.items[name].gpus - sum(self._there(name).values())

    # --- seeing -----------------------------------------------------------------------------------------

    def _saw_pod(self, pod: VirtualPod, there: bool) -> None:  # noqa: FBT001
        now = standing(pod, node_is_ready=True) if there else Standing.ENDED
        if now is Standing.SUBMITTING and pod.spec.node_name:
            claim = _Claim(pod.spec.node_name, pod.gpus, self._clock.monotonic())
            self._claims.setdefault(pod.job, claim)  # an earlier life sent it
        elif now in {Standing.QUEUED, Standing.RUNNING, Standing.ENDED}:
            was = self._claims.pop(pod.job, None)
            if pod.job_id:
                self._doubts.took(pod.spec.node_name)
            elif was and now is Standing.ENDED and pod.metadata.deletion_timestamp is None:
                self._doubts.failed(was.node)
        if now is Standing.RUNNING:
            self._waited.pop(pod.job, None)
        elif now in {Standing.SUBMITTING, Standing.QUEUED}:
            self._waited[pod.job] = _what_for(pod)
            if len(self._waited) > _REMEMBERED:
                self._waited.popitem(last=False)

    def _saw_node(self, node: VirtualNode, there: bool) -> None:  # noqa: FBT001
        name = node.metadata.name
        runs = list(self._runs.values())  # a reload adds some meanwhile, on a thread
        if not any(is_meant(node, run) for run in runs):
            return
        why = node.trouble if there else "is gone"
        known = self._away.get(name)
        self._away[name] = why
        if why and not known:
            VirtualNodeAway(node=name, why=why).emit()
        elif not why and known != "":
            VirtualNodeReady(node=name).emit()

    async def _meet(self) -> None:
        """Tell of nodes that have been there while no route went to them."""
        while True:
            await self._added.wait()
            self._added.clear()
            for name, node in self._nodes.items.items():
                if name not in self._away:
                    self._saw_node(node, True)
            await self._notify()

    async def _notify(self) -> None:
        ours = [name for name in self._away if name in self._nodes.items]
        self._levels.show(
            {name: (not self._away[name], self._live(name), self._free_gpus(name)) for name in ours}
        )
        async with self._changed:
            self._changed.notify_all()


def is_meant(node: VirtualNode, run: InterlinkRun) -> bool:
    """Whether it is a node that the run may go to."""
    labels = {HOST_NAME: node.metadata.name, **node.metadata.labels}
    return bool(run.selector) and run.selector.items() <= labels.items()


def _said(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"virtual node {name} {why}" for name, why in sorted(reasons.items()))


def _what_for(pod: VirtualPod) -> str:
    if pod.job_id:
        return f"it waited in the batch system's queue as job {pod.job_id}"
    return "it had not reached the batch system" if pod.spec.node_name else "it was given no node"
