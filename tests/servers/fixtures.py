"""Fixtures of real servers. A conftest.py turns them on: `pytest_plugins = ["tests.servers.fixtures"]`.

What the collected tests need is built and started side by side before the first of them runs: there no
test's time limit counts it and its progress is seen. With `DCNIOS_TESTBED=reuse` in the environment the test
bed that `python -m tests.servers` keeps is taken instead. Where the machine lacks something the tests are
skipped and say what; under `CI=true` they fail. Tests that stop servers start their own, in the `workspace`.
"""

import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers import image_store
from tests.servers.access import ClusterAccess
from tests.servers.addresses import Addresses, standing
from tests.servers.cache import Cache
from tests.servers.commands import MissingPartError
from tests.servers.minio import S3Access
from tests.servers.testbed import Part, Testbed
from tests.servers.workspace import Workspace


@dataclass(frozen=True)
class ClusterNode:
    """A cluster with a node, and the daemon's image on it."""

    access: ClusterAccess
    image: str


@dataclass(frozen=True)
class KafkaAccess:
    """A broker."""

    bootstrap: str


class _Session:
    """The servers of one pytest session: our own, or those of the standing test bed."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._bed: Testbed | None = None
        self._reused: Addresses | None = None

    def begin(self, parts: set[Part]) -> None:
        if os.environ.get("DCNIOS_TESTBED") == "reuse":
            self._reused = standing()
        if self._reused is None and parts:
            self._testbed().begin(*parts)
            self._testbed().settle()

    def _testbed(self) -> Testbed:
        if self._bed is None:
            self._bed = self._held.enter_context(Testbed(self._held.enter_context(Workspace())))
        return self._bed

    def addresses(self, part: Part) -> Addresses:
        if self._reused is not None:
            return self._reused
        self._testbed().wait_for(part)
        return self._testbed().addresses

    @property
    def reuses(self) -> bool:
        return self._reused is not None

    def close(self) -> None:
        self._held.close()


_SESSION = pytest.StashKey[_Session]()


def _needed(item: pytest.Item) -> set[Part]:
    return {Part(name) for name in getattr(item, "fixturenames", ()) if name in set(Part)}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SESSION] = _Session()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_SESSION].close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs servers, before `-m` looks at marks."""
    for item in items:
        if _needed(item) or "workspace" in getattr(item, "fixturenames", ()):
            item.add_marker("servers")


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        session.config.stash[_SESSION].begin(set().union(*map(_needed, session.items)))


def _skip_or_fail(error: MissingPartError) -> None:
    message = f"this machine lacks {error}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except MissingPartError as error:
        return _skip_or_fail(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except MissingPartError as error:
        return _skip_or_fail(error)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """Where a test starts servers of its own (`MinIO(workspace, env=…)`); they end with the test."""
    with Workspace() as space:
        yield space


@pytest.fixture(scope="session")
def kubernetes(pytestconfig: pytest.Config) -> ClusterAccess:
    """A cluster's control plane: Jobs can be made there, but only with `cluster_node` do pods run."""
    addresses = pytestconfig.stash[_SESSION].addresses(Part.KUBERNETES)
    return ClusterAccess.from_kubeconfig(addresses.kubeconfig)


@pytest.fixture(scope="session")
def cluster_node(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> ClusterNode:
    """A cluster that runs pods, with the daemon's image as the sources are now."""
    session = pytestconfig.stash[_SESSION]
    addresses = session.addresses(Part.NODE)
    if session.reuses:
        image_store.import_daemon_image(Cache(), addresses.containerd, tmp_path_factory.mktemp("image"))
    return ClusterNode(ClusterAccess.from_kubeconfig(addresses.kubeconfig), addresses.image)


@pytest.fixture(scope="session")
def minio(pytestconfig: pytest.Config) -> S3Access:
    """A plain MinIO, shared: use buckets of your own."""
    addresses = pytestconfig.stash[_SESSION].addresses(Part.MINIO)
    return S3Access(addresses.s3_endpoint, addresses.s3_access_key, addresses.s3_secret_key)


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> KafkaAccess:
    """A broker, shared: use topics of your own."""
    return KafkaAccess(pytestconfig.stash[_SESSION].addresses(Part.KAFKA).kafka)


@pytest.fixture
def namespace(kubernetes: ClusterAccess) -> Iterator[str]:
    """A namespace for one test; its Jobs and pods go with it."""
    name = kubernetes.create_namespace(f"test-{secrets.token_hex(4)}")
    yield name
    kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")
