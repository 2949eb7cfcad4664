"""The parts of the test bed, started side by side as they are needed."""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import Self

from tests.servers.addresses import Addresses
from tests.servers.commands import MissingPartError, abort
from tests.servers.kafka import Kafka
from tests.servers.kubernetes import ControlPlane
from tests.servers.minio import MinIO
from tests.servers.node import Node
from tests.servers.workspace import Workspace


class Part(StrEnum):
    """What can be had; the values are the names of the fixtures."""

    KUBERNETES = "kubernetes"
    NODE = "cluster_node"
    MINIO = "minio"
    KAFKA = "kafka"


class Testbed:
    """One of each server. Use as a context manager, then `begin` and `wait_for` what you need."""

    __test__ = False  # it is no test, whatever pytest makes of its name

    def __init__(self, space: Workspace) -> None:
        self.control = ControlPlane(space)
        self.node = Node(space, self.control)
        self.minio = MinIO(space)
        self.kafka = Kafka(space)
        self._pool = ThreadPoolExecutor(max_workers=len(Part), thread_name_prefix="start")
        self._starts: dict[Part, Future[object]] = {}

    def begin(self, *parts: Part) -> None:
        """Begins to start parts; those begun already are left alone."""
        begin: dict[Part, Callable[[], object]] = {
            Part.KUBERNETES: self.control.start,
            Part.NODE: self._start_node,
            Part.MINIO: self.minio.start,
            Part.KAFKA: self.kafka.start,
        }
        if Part.NODE in parts:
            self.begin(Part.KUBERNETES)
        for part in parts:
            if part not in self._starts:
                self._starts[part] = self._pool.submit(begin[part])

    def _start_node(self) -> None:
        self.node.start_runtime()
        self.wait_for(Part.KUBERNETES)
        self.node.join()

    def wait_for(self, part: Part) -> None:
        """Returns when the part serves, or raises why it does not."""
        self.begin(part)
        self._starts[part].result()

    def settle(self) -> None:
        """Returns when what was begun serves or has failed; the failures are for `wait_for` to tell."""
        wait(self._starts.values())

    def wait_for_all(self) -> None:
        """Returns when what was begun serves, or raises the first failure at once.

        Raises:
            MissingPartError: the machine lacks something.
        """
        done, _ = wait(self._starts.values(), return_when=FIRST_EXCEPTION)
        errors = [error for start in done if (error := start.exception())]
        # What the machine lacks explains more than what followed from it.
        for error in sorted(errors, key=lambda error: not isinstance(error, MissingPartError)):
            raise error

    @property
    def addresses(self) -> Addresses:
        """Where it is."""
        return Addresses(
            kubeconfig=self.control.access.kubeconfig,
            s3_endpoint=self.minio.endpoint,
            s3_access_key=self.minio.access_key,
            s3_secret_key=self.minio.secret_key,
            kafka=self.kafka.bootstrap,
            image=self.node.image,
            containerd=self.node.containerd.socket,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not all(start.done() for start in self._starts.values()):
            abort()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.node.stop()
        self.control.stop()
        self.minio.kill()
        self.kafka.kill()
