"""A Kubernetes Job for every order: one API call, a name that makes a second one impossible.

The name is a hash of route, key and attempt. On any doubt the Job is created again; *already exists* is
success once the Job there is seen to bear our key.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from pydantic import field_validator

from dcnios_daemon.core.errors import ConfigError, OrderRefused, SinkUnavailable
from dcnios_daemon.core.ports import Desk, Order
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.marks import SINK, selector
from dcnios_daemon.kubernetes.pods import Json
from dcnios_daemon.sinks.interlink.settings import HpcRun
from dcnios_daemon.sinks.job.manifest import Template
from dcnios_daemon.sinks.kubernetes.creating import create, identity, in_doubt, job_exists
from dcnios_daemon.sinks.kubernetes.follow import Follower
from dcnios_daemon.sinks.kubernetes.payload_secret import adopt, take_back
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.staging.plan import LONGEST, make_plan, needs_staging, validity


class JobRun(HpcRun):
    """A Kubernetes Job on a node of the cluster. What only an HPC has a use for is passed over: ``node``,
    ``node_labels``, ``slurm``, ``suspicious``, ``success_marker``, ``stage_with`` and what is for its site
    alone."""

    @field_validator("image")
    @classmethod
    def _is_in_a_registry(cls, value: str | None) -> str | None:
        if value and (value.startswith("/") or "://" in value):
            raise ValueError(
                f"{value} is no name in a registry, which is where a cluster has images from: write "
                "ghcr.io/…, and for an HPC image_root: docker:// besides"
            )
        return value


class JobPlan:
    """A route's ``run`` block as Jobs."""

    def __init__(
        self,
        session: ClusterSession,
        run: JobRun,
        *,
        template: Template,
        follower: Follower,
        context: SinkContext,
    ) -> None:
        self._session = session
        self._follower = follower
        self._run = run
        self._template = template
        self._stores = context.stores
        self._staged = needs_staging(run)

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The Job; with its Secret, as a List, where the payload needs one."""
        made = self._template.make(order, plan=await self._plan(order))
        if made.secret is None:
            return made.job
        return {"apiVersion": "v1", "kind": "List", "items": [made.secret, made.job]}

    async def submit(self, order: Order) -> None:
        """Make the Job. See :meth:`dcnios_daemon.core.ports.Plan.submit`."""
        plan = await self._plan(order)
        body = self._template.encode(order, plan=plan)
        if body is not None:
            await self._create(body, order)
            return
        made = self._template.make(order, plan=plan)
        if made.secret is None:
            await self._create(msgspec.json.encode(made.job), order)
        else:
            await self._create_both(made.secret, made.job, order)

    async def _create_both(self, secret: Json, job: Json, order: Order) -> None:
        if await create(self._session, "secrets", msgspec.json.encode(secret), order) is None:
            raise SinkUnavailable(f"the Secret {order.name} was there, and is gone")
        try:
            there = await self._create(msgspec.json.encode(job), order)
        except OrderRefused:
            await take_back(self._session, order.name)
            raise
        if there is not None:
            with in_doubt():
                await adopt(self._session, identity(there))

    async def _create(self, job: bytes, order: Order) -> bytes | None:
        return await create(self._session, "jobs", job, order, found=self._follower.found)

    async def exists(self, order: Order) -> bool:
        """Whether its Job is there. See :meth:`dcnios_daemon.core.ports.Plan.exists`."""
        return await job_exists(self._session, order)

    async def _plan(self, order: Order) -> bytes | None:
        """The staging plan; None where nothing is staged."""
        if not self._staged:
            return None
        # A queue may hold a Job for long before its deadline begins to run.
        waits = self._run.queue or self._run.suspend
        plan = await make_plan(
            order,
            self._run,
            self._stores,
            source=order.events[0].source,
            valid_for=LONGEST if waits else validity(self._run.longest),
        )
        return plan.encode()


class JobSink:
    """All routes with ``kind: job``."""

    def __init__(self, context: SinkContext, *, session: ClusterSession | None = None) -> None:
        self._context = context
        self._settings = context.kubernetes or KubernetesSettings()
        self._session = session or ClusterSession(self._settings, context.clock)
        self._follower = Follower(
            self._session, context.clock, sink="job", selector=f"{selector(context.instance)},!{SINK}"
        )

    def plan(self, route: str, run: JobRun) -> JobPlan:
        """Compile the route's Job. Reads its script and manifest files. See :class:`core.ports.Sink`."""
        template = Template(
            run,
            route=route,
            instance=self._context.instance,
            staging_image=self._settings.staging_image,
            manifest=_parsed(run.manifest, where=f"routes.{route}.run.manifest") if run.manifest else None,
        )
        self._follower.add(route, keep=run.keep)
        return JobPlan(self._session, run, template=template, follower=self._follower, context=self._context)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Follow the Jobs to their end. See :meth:`dcnios_daemon.core.ports.Sink.serve`."""
        await self._follower.run(desk, ready)

    def suspended(self) -> Mapping[str, int]:
        """See :meth:`dcnios_daemon.core.ports.Suspending.suspended`."""
        return self._follower.suspended()

    async def aclose(self) -> None:
        """Close the connections; Jobs live on."""
        await self._session.aclose()


def _parsed(manifest: Path, *, where: str) -> Any:  # noqa: ANN401 - any YAML
    try:
        return yaml.safe_load(manifest.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {manifest} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {manifest} is no YAML: {error}") from error
