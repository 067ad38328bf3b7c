"""A household of its own for each test: unique streams, topics, tables and client ids on shared servers."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import paho.mqtt.client as paho
import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.mqtt.client import disconnect
from hl_platform.adapters.postgres.leases import Holder, Lease
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.settings import Settings, load_settings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.run_service import ServiceReport, run_service
from hl_platform.pipeline.services import Service
from hl_platform.streams import load_streams

T = TypeVar("T")
# On a machine that does other things as well. Conditions are waited for, so a quick one loses nothing.
PATIENCE_S = 60.0
_numbers = itertools.count(1)


def eventually(get: Callable[[], T], wanted: Callable[[T], bool] = bool, patience_s: float = PATIENCE_S) -> T:
    """What `get` returns as soon as it is as wanted; fails with the last value when patience ends."""
    deadline = time.monotonic() + patience_s
    while True:
        value = get()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {patience_s} s"
        time.sleep(0.02)


class Home:
    """Streams of one test, and what a person would do with them.

    Args:
        database_url: of a database for this test alone.
        kafka: bootstrap servers.
        mqtt: host and port.
        env: further settings.
    """

    def __init__(self, database_url: str, kafka: str, mqtt: tuple[str, int], **env: str) -> None:
        self.prefix = f"t{os.getpid()}n{next(_numbers)}"
        self.directory = Path(tempfile.mkdtemp(prefix="hl-home-", dir="/tmp"))
        weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self.env = {
            "HL_DATABASE__URL": database_url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "HL_MQTT__HOST": mqtt[0],
            "HL_MQTT__PORT": str(mqtt[1]),
            "HL_MQTT__CLIENT_ID_PREFIX": self.prefix,
            "HL_BRIDGE__SPOOL_DIR": str(self.directory),
            **env,
        }
        self.streams = {name: self._own(stream) for name, stream in load_streams().items()}

    @property
    def settings(self) -> Settings:
        return load_settings(self.env)

    @property
    def energy(self) -> Stream:
        return self.streams["energy"]

    def prepare(self) -> None:
        """Makes tables and topics, as `hl up` does."""
        migrate(self.env["HL_DATABASE__URL"], None, self.streams.values())
        ensure_topics(self.settings.kafka, self.streams.values())

    def service(self, name: str) -> Service:
        stage, _, number = name.partition("-")
        return Service(name, stage, tuple(self.streams.values()), keeps_index=number in ("", "1"))

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Runs services in threads; a failure of theirs fails the test."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def run(name: str) -> None:
            try:
                self.run(name, stop)
            except BaseException as exc:  # noqa: BLE001 - reported below
                failures.append(exc)

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        try:
            if any(name.startswith("bridge") for name in names):
                eventually(lambda: failures or self.has_bridge())
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=PATIENCE_S)
        if failures:
            raise failures[0]

    def run(self, name: str, stop: threading.Event) -> ServiceReport:
        return run_service(self.settings, self.service(name), "", stop)

    def sink_store(self, service: str) -> SinkStore:
        """The energy table under a lease of its own, taken from whoever holds it."""
        url = self.env["HL_DATABASE__URL"]
        lease = Lease(url, Holder(service, "sink"), stale_after_s=3)
        lease.try_acquire(force=True)
        lease.close()
        return SinkStore(url, self.energy, service, lease_epoch=lease.epoch, retention_days=90)

    def publish(self, *messages: tuple[str, bytes], retain: bool = False) -> None:
        """Publishes at QoS 1, in order, and waits until the broker has acknowledged all."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.max_queued_messages_set(0)
        client.connect(self.env["HL_MQTT__HOST"], int(self.env["HL_MQTT__PORT"]))
        client.loop_start()
        try:
            sent = [client.publish(topic, payload, 1, retain) for topic, payload in messages]
            for info in sent:
                info.wait_for_publish(PATIENCE_S)
        finally:
            disconnect(client)

    def has_bridge(self, stream: str = "temperature") -> bool:
        """Whether a bridge is subscribed, by a message that becomes a dead letter of that stream."""
        # The PUBACK of MQTT 5 says whether anybody got the message (0x10: no matching subscribers).
        reasons = []
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.on_publish = lambda _c, _u, _id, reason, _p: reasons.append(reason.value)
        client.connect(self.env["HL_MQTT__HOST"], int(self.env["HL_MQTT__PORT"]))
        client.loop_start()
        try:
            client.publish(self.topic("probe", stream), b"", 1).wait_for_publish(PATIENCE_S)
            eventually(lambda: reasons)
        finally:
            disconnect(client)
        return reasons == [0]

    def topic(self, device_id: str, stream: str = "energy") -> str:
        return self.streams[stream].mqtt_filter.removesuffix("#") + device_id

    def produce(
        self,
        *records: tuple[str | None, bytes],
        stream: str = "energy",
        headers: dict[str, str | bytes] | None = None,
    ) -> None:
        """Puts (key, value) records on the stream's Kafka topic, in order, and waits for all."""
        failed: list[object] = []
        producer = Producer({"bootstrap.servers": self.env["HL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 0})
        for key, value in records:
            producer.produce(
                self.streams[stream].kafka_topic,
                value,
                key,
                headers=headers,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        assert producer.flush(PATIENCE_S) == 0
        assert not failed

    def records(self, kafka_topic: str) -> list[Message]:
        """All records of a topic that are there now, in order per partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.env["HL_KAFKA__BOOTSTRAP_SERVERS"],
                "group.id": f"{self.prefix}-look",
                "enable.auto.commit": False,
            }
        )
        try:
            metadata = consumer.list_topics(kafka_topic, timeout=PATIENCE_S)
            places = [
                TopicPartition(kafka_topic, partition)
                for partition in metadata.topics[kafka_topic].partitions
            ]
            ranges = [consumer.get_watermark_offsets(place, timeout=PATIENCE_S) for place in places]
            for place, (low, _) in zip(places, ranges, strict=True):
                place.offset = low
            # All at once: a consumer that is given one partition after the other waits half a second for each.
            consumer.assign(places)
            n_records = sum(high - low for low, high in ranges)
            found = [consumer.consume(1, timeout=PATIENCE_S)[0] for _ in range(n_records)]
            return sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))
        finally:
            consumer.close()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Rows of a query on the test's database; `energy` stands for the energy table."""
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn:
            return conn.execute(statement.replace("{energy}", self.energy.table), values).fetchall()

    def execute(self, statements: str) -> None:
        """Changes the test's database."""
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn:
            conn.execute(statements)

    def n_rows(self) -> int:
        return int(self.query("select count(*) from {energy}")[0][0])

    def account(self, stage: str, stream: str = "energy") -> dict[str, int]:
        """Counts of a stage, summed over its services."""
        names = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight")
        sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in names)
        row = self.query(
            f"select {sums} from hl.accounts where stage = %s and stream = %s",  # noqa: S608 - constants
            stage,
            self.streams[stream].name,
        )[0]
        return dict(zip(names, row, strict=True))

    def start_process(self, name: str) -> subprocess.Popen[bytes]:
        """Runs a service as a process of its own, with the household's streams, to be killed."""
        service = msgspec.json.encode(self.service(name)).decode()
        return subprocess.Popen([sys.executable, "-c", _PROCESS, service], env={**os.environ, **self.env})

    def _own(self, stream: Stream) -> Stream:
        return msgspec.structs.replace(
            stream,
            name=f"{stream.name}_{self.prefix}",
            mqtt_filter=f"{self.prefix}/{stream.name}/#",
            kafka_topic=f"{self.prefix}.{stream.name}",
            presence_filter=f"{self.prefix}/{stream.name}/+/availability",
        )


# `python -m hl_platform.pipeline` runs the declared streams; a test's process is given the test's own.
_PROCESS = """
import os, sys, threading
import msgspec
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import Service
run_service(load_settings(os.environ), msgspec.json.decode(sys.argv[1], type=Service), "", threading.Event())
"""


def reading(at: datetime | None = None, **values: object) -> bytes:
    """The payload of an energy meter."""
    body = {"total_energy_kwh": 12.45, "power_kw": 3.2, "voltage": 230, "current": 13.9, **values}
    return msgspec.json.encode({"timestamp": at or datetime.now(UTC), **body})


def record(device_id: str, at: datetime | None = None, **values: object) -> tuple[str, bytes]:
    """An energy reading as the bridge writes it to Kafka."""
    body = msgspec.json.decode(reading(at, **values))
    return device_id, msgspec.json.encode({**body, "device_id": device_id, "received_at": datetime.now(UTC)})
