"""Puts a bridge together: MQTT session, outlet with producer and spool."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from hl_platform.adapters.directories import spool_directory
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.adapters.mqtt.session import SocketSession, Subscription
from hl_platform.adapters.spool import Spool
from hl_platform.core.accounts import StageStats
from hl_platform.core.settings import Settings
from hl_platform.pipeline.bridge import Bridge
from hl_platform.pipeline.outlet import Outlet, Receiver
from hl_platform.pipeline.probe import Probe
from hl_platform.pipeline.pulse import Pulse
from hl_platform.pipeline.services import Service
from hl_platform.pipeline.spool_report import SpoolReport

S = TypeVar("S", bound=SocketSession)

PROBE_EVERY_S = 0.5


def make_session(kind: type[S], settings: Settings, service: Service) -> S:
    """The MQTT session of a bridge, not connected."""
    return kind(
        settings.mqtt,
        service.name,
        [Subscription(stream.mqtt_filter, stream.retained) for stream in service.streams],
        shared=settings.bridge.instances > 1,
    )


def make_bridge(
    settings: Settings,
    service: Service,
    stats: StageStats,
    session: SocketSession,
    *,
    ask_kafka: Callable[[], None],
    kafka_answers: bool,
) -> Bridge:
    """The bridge of a service, not started.

    Args:
        settings: with the addresses of all servers.
        service: which bridge.
        stats: what it counts.
        session: where its messages come from.
        ask_kafka: makes sure of the topics; raises while Kafka is away.
        kafka_answers: whether it did just now.
    """
    return Bridge(
        service=service.name,
        streams={stream.name: stream for stream in service.streams},
        session=session,
        make_outlet=lambda receiver: _make_outlet(settings, service.name, stats, ask_kafka, receiver),
        kafka_answers=kafka_answers,
        rules=settings.reading,
        stats=stats,
        now=lambda: datetime.now(UTC),
        # No successor takes the lease before its heartbeat is stale.
        pulse=Pulse(settings.service.stale_after_s - settings.service.heartbeat_s),
    )


def _make_outlet(
    settings: Settings, service: str, stats: StageStats, ask_kafka: Callable[[], None], receiver: Receiver
) -> Outlet:
    directory = spool_directory(settings, service)
    report = SpoolReport(stats, directory)
    return Outlet(
        make_producer=lambda: KafkaProducer(settings.kafka, f"hl-{service}"),
        open_spool=lambda on_found: Spool(
            directory,
            max_bytes=settings.bridge.spool_max_bytes,
            on_found=on_found,
            on_damage=report.damaged,
        ),
        probe=Probe(ask_kafka, PROBE_EVERY_S),
        after_s=settings.bridge.spool_after_s,
        report=report,
        receiver=receiver,
        clock=time.monotonic,
    )
