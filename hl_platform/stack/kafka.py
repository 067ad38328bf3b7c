"""An own Apache Kafka: one process that is broker and controller, on loopback."""

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from hl_platform.adapters.kafka.topics import FULL_REPLICATION
from hl_platform.stack.files import build_once
from hl_platform.stack.java import find_java, find_maven
from hl_platform.stack.layout import Layout
from hl_platform.stack.net import LOOPBACK, answers_kafka, free_port
from hl_platform.stack.process import Command
from hl_platform.stack.server import Server, StartError, plain_environment, silent
from hl_platform.stack.users import give_to

VERSION = "4.3.1"
# Fetching 44 MB on a slow line.
MAVEN_TIMEOUT_S = 1_800

CONFIGURATION = """\
# Written by hl at every start.
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
{listeners}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={directory}/data

# hl makes its topics with the partitions they need; a mistyped name must not become one.
auto.create.topics.enable=false

# A single broker has one copy of everything; a cluster has several, and all but one must have a record.
default.replication.factor={n_copies}
min.insync.replicas={n_in_sync}
offsets.topic.replication.factor={n_copies}
transaction.state.log.replication.factor={n_copies}
transaction.state.log.min.isr={n_in_sync}
share.coordinator.state.topic.replication.factor={n_copies}
share.coordinator.state.topic.min.isr={n_in_sync}

# A single copy is on disk within a second: that is what a power cut can take. A kill takes nothing.
log.flush.interval.ms=1000
log.flush.scheduler.interval.ms=1000

# A household needs few partitions and few threads; the defaults are for a cluster and cost start-up time.
offsets.topic.num.partitions=4
offsets.topic.segment.bytes=8388608
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=8388608
log.segment.bytes=67108864
log.index.size.max.bytes=262144
log.roll.hours=24

# The controller would write a record that says nothing twice a second.
metadata.max.idle.interval.ms=10000

# After a kill the broker may not return before its old registration has expired; 9 s by default.
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=500

# Consumers get their partitions at once: there is nobody else to wait for.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=3000
# A message of hl is far smaller; a dead letter holds the device's original bytes.
message.max.bytes=2097152
"""

LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.common.utils.AppInfoParser" level="ERROR"/>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""

JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    # Compiles quickly rather than perfectly: ready sooner, smaller, and far above a household's rate.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
)


class ClusterNode(NamedTuple):
    """One of several brokers that form a cluster, each with a layout of its own.

    Args:
        node_id: its number, from 1.
        controller_ports: of all nodes, in order of their numbers; for as long as the cluster lives.
        cluster_id: the same for all of them, see `new_kafka_uuid`.
    """

    node_id: int
    controller_ports: tuple[int, ...]
    cluster_id: str


class EmbeddedKafka(Server):
    """Kafka in KRaft mode, broker and controller in one.

    Args:
        layout: where its data and jars are.
        port: on loopback.
        node: its place in a cluster; None is a cluster of its own.
        forwarded: further ports it listens on, and the ports through which clients reach them: what stands
            between (a proxy, a port forwarding) is where Kafka sends those clients back to.
        keep_fds: file descriptors it inherits.
        report: told what takes long.
    """

    def __init__(
        self,
        layout: Layout,
        port: int,
        *,
        node: ClusterNode | None = None,
        forwarded: Mapping[int, int] | None = None,
        keep_fds: Sequence[int] = (),
        report: Callable[[str], None] = silent,
    ) -> None:
        super().__init__("kafka", layout.logs, keep_fds=keep_fds, report=report)
        self._layout = layout
        self.port = port
        self._node = node
        self._forwarded = forwarded or {}

    @property
    def bootstrap_servers(self) -> str:
        """For clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def _directory(self) -> Path:
        return self._layout.data_dir / "kafka"

    def prepare(self) -> None:
        """Fetches the jars and formats the storage, each unless done; writes the configuration.

        Raises:
            ConfigError: Java or Maven is missing.
            StartError: the jars cannot be fetched.
        """
        find_java()
        self._jars()
        directory = self._layout.server_dir("kafka")
        # A single controller's port is nobody else's business, and may be another one at every start.
        node = self._node or ClusterNode(1, (free_port(),), new_kafka_uuid())
        configuration = plan_configuration(node, self.port, self._forwarded, directory)
        self._write(directory / "server.properties", configuration)
        self._write(directory / "log4j2.xml", LOGGING)
        self._format(directory / "data", node)

    def command(self) -> Command:
        """The broker in the foreground."""
        directory = self._directory
        return Command(
            [
                find_java(),
                *JVM_OPTIONS,
                f"-Dlog4j2.configurationFile={directory / 'log4j2.xml'}",
                f"-Djava.io.tmpdir={directory}",
                *("-cp", f"{self._jars()}/*", "kafka.Kafka", str(directory / "server.properties")),
            ],
            plain_environment(directory),
            directory,
            self._layout.user,
        )

    def is_ready(self) -> bool:
        """Whether it answers requests."""
        return answers_kafka(self.port)

    def _jars(self) -> Path:
        target = _home(self._layout)

        def build(draft: Path) -> None:
            maven = find_maven()
            self.report("fetching Kafka (44 MB)")
            with resources.as_file(resources.files(__package__) / "kafka_pom.xml") as pom:
                # Maven writes beside its pom, and that may be a place that is not ours to write to.
                shutil.copy(pom, draft / "pom.xml")
            done = subprocess.run(
                [
                    *(
                        maven,
                        "--batch-mode",
                        "--quiet",
                        "--strict-checksums",
                        "--file",
                        str(draft / "pom.xml"),
                    ),
                    "dependency:copy-dependencies",
                    *("-DincludeScope=runtime", f"-DoutputDirectory={draft / 'libs'}"),
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd=draft,
                timeout=MAVEN_TIMEOUT_S,
            )
            if done.returncode != 0:
                lines = (done.stdout + done.stderr).strip().splitlines()
                raise StartError("Maven could not fetch Kafka:\n" + "\n".join(lines[:12]))

        return build_once(target, build) / "libs"

    def _format(self, data: Path, node: ClusterNode) -> None:
        """Gives the storage its identity, which is all that `kafka-storage format` does for a static quorum."""
        if (data / "meta.properties").exists():
            return
        data.mkdir(exist_ok=True)
        give_to(data, self._layout.user)
        identity = f"cluster.id={node.cluster_id}\nnode.id={node.node_id}\ndirectory.id={new_kafka_uuid()}"
        self._write(data / "meta.properties", f"version=1\n{identity}\n")

    def _write(self, path: Path, text: str) -> None:
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(text, encoding="utf-8")
        give_to(draft, self._layout.user)
        draft.rename(path)


def plan_configuration(node: ClusterNode, port: int, forwarded: Mapping[int, int], directory: Path) -> str:
    """What stands in server.properties.

    Args:
        node: its place in the cluster.
        port: for clients and for the other brokers.
        forwarded: see `EmbeddedKafka`.
        directory: holds its data.
    """
    # name: (port it listens on, port its clients are told)
    client_ports = {"BROKER": (port, port)} | {f"PORT{own}": (own, told) for own, told in forwarded.items()}
    own_controller_port = node.controller_ports[node.node_id - 1]
    listening = {name: own for name, (own, _) in client_ports.items()} | {"CONTROLLER": own_controller_port}
    listeners = (
        f"listeners={_listed(listening)}",
        f"advertised.listeners={_listed({name: told for name, (_, told) in client_ports.items()})}",
        "listener.security.protocol.map=" + ",".join(f"{name}:PLAINTEXT" for name in listening),
    )
    n_copies = min(len(node.controller_ports), FULL_REPLICATION)
    return CONFIGURATION.format(
        node_id=node.node_id,
        voters=",".join(
            f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(node.controller_ports, start=1)
        ),
        listeners="\n".join(listeners),
        directory=directory,
        n_copies=n_copies,
        n_in_sync=max(1, n_copies - 1),
    )


def _listed(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def has_jars(layout: Layout) -> bool:
    """Whether Kafka has been fetched already."""
    return _home(layout).is_dir()


def _home(layout: Layout) -> Path:
    return layout.runtime_dir / f"kafka-{VERSION}"


def new_kafka_uuid() -> str:
    """A random UUID in Kafka's own form."""
    # One that begins with a dash would look like an option.
    while True:
        text = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
