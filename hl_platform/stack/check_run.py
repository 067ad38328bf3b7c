"""Sends a probe of each stream through all stages and watches where it comes to.

    hl check ── MQTT ── bridge ── Kafka ─┬─ sink ── row of hl.probes
                 │                 │     └─ live ── frame, to who asks for the device `hl-probe`
              watched           watched          both watched

Every watcher is ready before the probes are sent, and has a client of its own: no consumer group, no MQTT session.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hl_platform.adapters.feed_client import FeedConnection, open_feed
from hl_platform.adapters.kafka.tail import TopicTail
from hl_platform.adapters.mqtt.listener import Heard, MqttListener
from hl_platform.adapters.postgres.probes import ProbeWatch
from hl_platform.core.errors import HlError
from hl_platform.core.probe import PROBE_DEVICE, STAGES, Step, make_probe, plan_steps, probe_topic
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream

# Well below the budgets, and no load for the database.
LOOK_S = 0.01
POLL_S = 0.1


class CheckReport(NamedTuple):
    """What became of the probes.

    Args:
        steps: by stream, and by stage in the order of the way.
        total_ms: by stream, from sending to the last stage; None where the probe did not come to all.
        problems: why a stage could not be watched, by stage.
    """

    steps: list[Step]
    total_ms: dict[str, float | None]
    problems: dict[str, str]


class Arrivals:
    """When each probe was seen at each stage; any thread may add."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()

    def add(self, stage: str, stream: str) -> None:
        """Notes that a probe is there now, if it was not before."""
        with self._changed:
            self._seen.setdefault((stage, stream), time.monotonic())
            self._changed.notify_all()

    def wait(self, stage: str, streams: Sequence[str], timeout_s: float) -> bool:
        """Returns as soon as all these streams' probes are at a stage, or when the time is over; whether they are."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all((stage, stream) in self._seen for stream in streams), timeout_s
            )

    def of(self, stream: str) -> dict[str, float]:
        """When a stream's probe was seen, by stage."""
        with self._changed:
            return {stage: at for (stage, whose), at in self._seen.items() if whose == stream}


class Watcher:
    """Watches all stages for the probes of some streams.

    Args:
        settings: with the addresses of all servers.
        streams: whose probes.
        limit_s: for each server to answer, in seconds.
    """

    def __init__(self, settings: Settings, streams: Sequence[Stream], limit_s: float) -> None:
        self._settings = settings
        self._streams = {stream.name: stream for stream in streams}
        self._limit_s = limit_s
        self._by_mqtt_topic = {probe_topic(stream): stream.name for stream in streams}
        self._by_kafka_topic = {stream.kafka_topic: stream.name for stream in streams}
        now = datetime.now(UTC)
        self._sent_at = {stream.name: now for stream in streams}
        self._listener = MqttListener(settings.mqtt, "check", list(self._by_mqtt_topic), self._hear)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._feeds = ExitStack()
        self.arrivals = Arrivals()
        self.problems: dict[str, str] = {}

    def run(self) -> CheckReport:
        """Sends the probes and waits at each stage, for the time limit at most."""
        try:
            self._open()
            sent_s = self._send()
            came: dict[str, bool] = {}
            for stage in STAGES:
                if came.get(stage.behind, True) and stage.name not in self.problems:
                    came[stage.name] = self.arrivals.wait(stage.name, list(self._streams), self._limit_s)
                else:
                    came[stage.name] = False
        finally:
            self._close()
        return self._report(sent_s)

    def _open(self) -> None:
        self._try("mqtt", lambda: self._listener.open(self._limit_s))
        self._try("kafka", self._watch_kafka)
        self._try("row", self._watch_rows)
        self._try("frame", self._watch_feed)

    def _send(self) -> float:
        # The timestamp is the device's: it is made when the probe is sent, and not before all watchers were ready.
        now = datetime.now(UTC)
        self._sent_at.update(dict.fromkeys(self._streams, now))
        sent_s = time.monotonic()
        if "mqtt" not in self.problems:
            for stream in self._streams.values():
                self._listener.publish(probe_topic(stream), make_probe(stream, now))
        return sent_s

    def _try(self, stage: str, work: Callable[[], None]) -> None:
        try:
            work()
        except HlError as exc:
            self.problems[stage] = str(exc)

    def _hear(self, heard: Heard) -> None:
        name = self._by_mqtt_topic[heard.mqtt_topic]
        if self._is_ours(name, heard.payload):
            self.arrivals.add("mqtt", name)

    def _watch_kafka(self) -> None:
        tail = TopicTail(self._settings.kafka, list(self._by_kafka_topic), "hl-check")

        def look() -> None:
            record = tail.poll(POLL_S)
            if record is not None and record.key == PROBE_DEVICE.encode():
                name = self._by_kafka_topic[record.kafka_topic]
                if self._is_ours(name, record.value):
                    self.arrivals.add("kafka", name)

        self._start("kafka", look, tail.close)

    def _watch_rows(self) -> None:
        url = require_address(self._settings.database.url, "database", "url")
        watch = ProbeWatch(url, self._sent_at)

        def look() -> None:
            for name in watch.stored():
                self.arrivals.add("row", name)
            self._stop.wait(LOOK_S)

        self._start("row", look, watch.close)

    def _watch_feed(self) -> None:
        for name in self._streams:
            feed = self._feeds.enter_context(
                open_feed(self._settings.live, name, PROBE_DEVICE, self._limit_s)
            )

            def look(feed: FeedConnection = feed, name: str = name) -> None:
                frame = feed.poll(POLL_S)
                if frame is not None and frame["type"] == "data" and self._is_at(name, frame["timestamp"]):
                    self.arrivals.add("frame", name)

            self._start("frame", look)

    def _start(self, stage: str, look: Callable[[], None], close: Callable[[], None] = lambda: None) -> None:
        def run() -> None:
            try:
                while not self._stop.is_set():
                    look()
                close()
            except HlError as exc:
                self.problems.setdefault(stage, str(exc))

        thread = threading.Thread(target=run, name=f"check-{stage}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _is_ours(self, name: str, value: bytes) -> bool:
        try:
            body: Any = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return False
        return isinstance(body, dict) and self._is_at(name, body.get("timestamp"))

    def _is_at(self, name: str, timestamp: object) -> bool:
        try:
            return msgspec.convert(timestamp, datetime) == self._sent_at[name]
        except msgspec.ValidationError:
            return False

    def _close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._limit_s)
        self._feeds.close()
        if "mqtt" not in self.problems:
            self._listener.close()

    def _report(self, sent_s: float) -> CheckReport:
        steps: list[Step] = []
        total_ms: dict[str, float | None] = {}
        for name in self._streams:
            arrived = self.arrivals.of(name)
            steps += plan_steps(name, sent_s, arrived)
            complete = all(stage.name in arrived for stage in STAGES)
            total_ms[name] = (max(arrived.values()) - sent_s) * 1000 if complete else None
        return CheckReport(steps, total_ms, dict(self.problems))


def run_check(settings: Settings, streams: Mapping[str, Stream], limit_s: float) -> CheckReport:
    """Sends a probe of each stream through all stages.

    Args:
        settings: with the addresses of all servers.
        streams: by name.
        limit_s: at each stage, in seconds.

    Raises:
        ConfigError: an address is missing.

    Guarantee: changes no table of readings and no aggregate, takes nothing from bridge, sink and feed, and leaves
    nothing behind but a record on Kafka.
    """
    return Watcher(settings, list(streams.values()), limit_s).run()
