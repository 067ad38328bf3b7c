"""A trace from a device's reading to its row and its frame, at a collector of the test's own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import paho.mqtt.client as paho
import pytest
from confluent_kafka import Producer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hl_platform.adapters.mqtt.client import disconnect
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import Service
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.collector import Collector, running_collector
from tests.home import PATIENCE_S, eventually, reading
from tests.integration.live_service import LiveProcess

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture
def live(
    tmp_path: Path,
    database_url: str,
    kafka: EmbeddedKafka,
    mosquitto: EmbeddedMosquitto,
    collector: Collector,
) -> Iterator[LiveProcess]:
    own = {
        "HL_MQTT__HOST": mosquitto.host,
        "HL_MQTT__PORT": str(mosquitto.port),
        "HL_TRACING__ENDPOINT": collector.url,
    }
    made = LiveProcess(tmp_path, database_url, kafka.bootstrap_servers, **own)
    made.env |= {"HL_MQTT__CLIENT_ID_PREFIX": made.prefix, "HL_BRIDGE__SPOOL_DIR": str(tmp_path)}
    made.make_tables()
    made.make_topics()
    yield made.start_reading()
    made.close()


@contextmanager
def running(live: LiveProcess, *names: str) -> Iterator[None]:
    """Services that work while the block lasts."""
    stop = threading.Event()
    threads = []
    for name in names:
        service = Service(name, name, tuple(live.streams.values()))
        arguments = (load_settings(live.env), service, "", stop)
        threads.append(threading.Thread(target=run_service, args=arguments))
        threads[-1].start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def produce(live: LiveProcess, *contexts: str | None) -> None:
    producer = Producer({"bootstrap.servers": live.env["HL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 0})
    for context in contexts:
        body = {**msgspec.json.decode(reading()), "device_id": "m1", "received_at": "2026-01-03T16:00:00Z"}
        headers = {"traceparent": context} if context else None
        producer.produce(live.topic, msgspec.json.encode(body), "m1", headers=headers)
    assert producer.flush(PATIENCE_S) == 0


def test_a_record_with_a_context_has_a_span_at_the_feed_and_a_link_at_the_sink(
    live: LiveProcess, collector: Collector
) -> None:
    with running(live, "sink"):
        produce(live, None, CONTEXT, CONTEXT.removesuffix("1") + "0", "nonsense")
        [frame] = eventually(lambda: collector.named("feed.publish"))
        [row] = eventually(lambda: collector.named("sink.write"))
    assert (frame.service, frame.trace_id, frame.parent) == ("hl-live", TRACE, SPAN)
    assert (row.service, row.links) == ("hl-sink", ((TRACE, SPAN),))


def publish(live: LiveProcess, *contexts: str | None) -> None:
    """Readings of a device that belong to a trace, or to none."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect(live.env["HL_MQTT__HOST"], int(live.env["HL_MQTT__PORT"]))
    client.loop_start()
    for context in contexts:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("other", "x"), *([("traceparent", context)] if context else [])]
        topic = f"{live.prefix}/energy/m1"
        client.publish(topic, reading(), 1, properties=properties).wait_for_publish(PATIENCE_S)
    disconnect(client)


def test_a_published_context_leads_to_the_row_and_the_frame(live: LiveProcess, collector: Collector) -> None:
    with running(live, "bridge", "sink"):
        eventually(
            lambda: live.query("select 1 from hl.leases where service = 'bridge' and released_at is null")
        )
        with live.subscribe("?device_id=m1") as client:
            eventually(lambda: _is_carried(live))
            publish(live, None, "nonsense", CONTEXT)
            frames = [json.loads(client.recv(PATIENCE_S)) for _ in range(3)]
        [frame] = eventually(lambda: collector.named("feed.publish"))
        [row] = eventually(lambda: collector.named("sink.write"))
    assert [one["type"] for one in frames].count("data") >= 2
    assert (frame.trace_id, frame.parent) == (TRACE, SPAN)
    assert row.links == ((TRACE, SPAN),)


def _is_carried(live: LiveProcess) -> bool:
    publish(live, None)
    return bool(live.query("select 1 from hl.accounts where stage = 'bridge' and received > 0"))


def test_a_request_joins_its_clients_trace_and_says_so(live: LiveProcess, collector: Collector) -> None:
    url = f"http://127.0.0.1:{live.port}/api/v1/streams"
    plain = httpx.get(url, timeout=PATIENCE_S)
    answer = httpx.get(url, headers={"traceparent": CONTEXT}, timeout=PATIENCE_S)
    [span] = eventually(lambda: [one for one in collector.spans if one.name.startswith("GET ")])
    assert (span.name, span.trace_id, span.parent) == ("GET /api/v1/streams", TRACE, SPAN)
    assert answer.headers["traceresponse"].split("-")[1] == TRACE
    assert "traceresponse" not in plain.headers
