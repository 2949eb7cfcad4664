"""Kafka in KRaft mode: one process that is broker and controller."""

import shutil
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from tests.servers import versions
from tests.servers.cache import Cache
from tests.servers.commands import run, tool
from tests.servers.process import Server
from tests.servers.workspace import Workspace

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>invalid.dcnios</groupId><artifactId>testbed</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_{scala}</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
  </dependencies>
</project>
"""

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=8388608
"""

CLUSTER_ID = "ZGNuaW9zLXRlc3RiZWQtMQ"

JVM = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]
"""One small collector and one quick compiler: a broker for tests lives minutes, on two cores."""

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Kafka's smallest request: length, key 18, version 0, correlation id 1, no client id."""


def _java(jars: Path, main: str, *arguments: str | Path) -> list[str]:
    return [tool("java", "Java"), *JVM, "-cp", f"{jars}/*", main, *(str(argument) for argument in arguments)]


def _build(target: Path) -> None:
    """Fetches the jars and formats a data folder for brokers to copy: there are no ports in it."""
    pom = target / "pom.xml"
    pom.write_text(POM.format(scala=versions.KAFKA_SCALA, kafka=versions.KAFKA, slf4j=versions.SLF4J))
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target / 'lib'}", "-DincludeScope=runtime"]
    run([tool("mvn", "Maven"), "--quiet", "--batch-mode", "--file", str(pom), *goal], cwd=target)
    properties = target / "format.properties"
    properties.write_text(PROPERTIES.format(port=9092, controller=9093, data=target / "data"))
    storage = _java(target / "lib", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties)
    run(storage, cwd=target)


def built(cache: Cache) -> Path:
    """The folder with Kafka's jars and a formatted data folder."""
    tool("java", "Java")
    return cache.entry("kafka", versions.KAFKA, _build)


class Kafka(Server):
    """One broker; `properties` are lines that come after ours in its configuration."""

    def __init__(self, space: Workspace, *, properties: str = "", name: str = "kafka") -> None:
        super().__init__(space, name)
        self._port = space.port()
        self._controller = space.port()
        self._properties = properties
        self._jars = Path()

    @property
    def bootstrap(self) -> str:
        """What a client's `bootstrap_servers` wants."""
        return f"127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Gets Kafka and writes its configuration."""
        root = built(self.space.cache)
        self._jars = root / "lib"
        data = self.directory / "data"
        text = PROPERTIES.format(port=self._port, controller=self._controller, data=data)
        (self.directory / "server.properties").write_text(text + self._properties)
        self.fill(data, root / "data")

    def fill(self, data: Path, formatted: Path) -> None:
        """Makes the data folder."""
        shutil.copytree(formatted, data)

    def java(self, main: str, *arguments: str | Path) -> list[str]:
        """The command line of one of Kafka's programs."""
        return _java(self._jars, main, *arguments)

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return self.java("kafka.Kafka", self.directory / "server.properties")

    def ready(self) -> bool:
        """Whether it answers requests: its port is open long before."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
            connection.sendall(API_VERSIONS)
            return len(connection.recv(4)) == 4
