"""ElasticMQ: a queue server that speaks Amazon SQS's protocol. Small, and not ours."""

from collections.abc import Sequence
from pathlib import Path

from tests.servers import probe, versions
from tests.servers.cache import Cache
from tests.servers.commands import run, tool
from tests.servers.process import Server
from tests.servers.workspace import Workspace

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>invalid.dcnios</groupId><artifactId>testbed</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId><artifactId>elasticmq-server_{scala}</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""

CONFIGURATION = """\
include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
generate-node-address = false
queues-storage {{ enabled = true, path = "{queues}" }}
messages-storage {{
  enabled = true
  uri = "jdbc:h2:{data}"
  driver-class-name = "org.h2.Driver"
}}
aws {{ region = us-east-1, accountId = 000000000000 }}
"""

JVM = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def _build(target: Path) -> None:
    pom = target / "pom.xml"
    pom.write_text(POM.format(scala=versions.KAFKA_SCALA, version=versions.ELASTICMQ))
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target / 'lib'}", "-DincludeScope=runtime"]
    run([tool("mvn", "Maven"), "--quiet", "--batch-mode", "--file", str(pom), *goal], cwd=target)


def built(cache: Cache) -> Path:
    """The folder with its jars."""
    tool("java", "Java")
    return cache.entry("elasticmq", versions.ELASTICMQ, _build)


class ElasticMQ(Server):
    """Without queues at first; queues and their messages survive a restart."""

    def __init__(self, space: Workspace, *, name: str = "elasticmq") -> None:
        super().__init__(space, name)
        self._port = space.port()
        self._jars = Path()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def queue_url(self, queue: str) -> str:
        """The address of a queue."""
        return f"{self.endpoint}/000000000000/{queue}"

    def prepare(self) -> None:
        """Gets it and writes its configuration."""
        self._jars = built(self.space.cache) / "lib"
        text = CONFIGURATION.format(
            port=self._port, data=self.directory / "messages", queues=self.directory / "queues.conf"
        )
        (self.directory / "elasticmq.conf").write_text(text)

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        configuration = f"-Dconfig.file={self.directory / 'elasticmq.conf'}"
        return [
            tool("java", "Java"),
            *JVM,
            configuration,
            "-cp",
            f"{self._jars}/*",
            "org.elasticmq.server.Main",
        ]

    def ready(self) -> bool:
        """Whether it answers, and has its queues of before: it answers a while without them."""
        if not probe.answers(f"{self.endpoint}/?Action=ListQueues"):
            return False
        return "started in" in self.log.read_text().rpartition("Starting ElasticMQ server")[2]
