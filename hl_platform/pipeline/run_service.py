"""Runs one bridge or sink under its lease, from start to orderly end."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from hl_platform.adapters.kafka.consumer import GroupConsumer
from hl_platform.adapters.kafka.dead_letter_reader import DeadLetterReader
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.mqtt.retiring import RetiringSession
from hl_platform.adapters.mqtt.session import SocketSession
from hl_platform.adapters.postgres.dead_letter_store import CONSUMER_GROUP, DeadLetterStore
from hl_platform.adapters.postgres.lease_keeper import LeaseKeeper
from hl_platform.adapters.postgres.leases import Holder, retire_service
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.adapters.runtime import take_short_turns
from hl_platform.adapters.tracing import Tracing, open_tracing
from hl_platform.core.accounts import Account, StageStats
from hl_platform.core.errors import FencedError, HlError, TransientError
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.pipeline.bridge import Bridge
from hl_platform.pipeline.dead_letter_index import DeadLetterIndexer
from hl_platform.pipeline.make_bridge import make_bridge, make_session
from hl_platform.pipeline.mqtt_queue import MqttQueueAlarm
from hl_platform.pipeline.presence import PresenceKeeper
from hl_platform.pipeline.recount import Recount
from hl_platform.pipeline.services import Service, plan_bridge_names
from hl_platform.pipeline.sink import StreamSink
from hl_platform.pipeline.stand_in import SiblingWatch, Until, compare_clocks

log = structlog.get_logger()

RETRY_S = 0.5


class Worker(Protocol):
    """What a service is made of."""

    def run(self) -> None:
        """Works until stopped; raises why it cannot go on."""

    def stop(self) -> None:
        """Ends `run` after a flush."""


class ServiceReport(NamedTuple):
    """How a service ended.

    Args:
        reason: `stopped` from outside, `handed_over` on request through the lease, or `fenced`.
        accounts: what this process counted, by stream; empty for a sink, whose counts are in the database.
    """

    reason: str
    accounts: dict[str, Account]


def run_service(settings: Settings, service: Service, run_id: str, stop: threading.Event) -> ServiceReport:
    """Runs a service until it is stopped, asked to stop, or fenced off.

    Args:
        settings: with the addresses of all servers.
        service: which.
        run_id: Dagster's run, shown with the lease; may be empty.
        stop: set from outside to end it.

    Raises:
        HlError: why it cannot go on. The lease is released and nothing is lost.

    Guarantee: works only while it holds the lease, as far as anyone can know that; what it writes is fenced
    where it is written (offsets by epoch, MQTT by session).
    """
    tenure = _Tenure(settings, service, run_id)
    if not tenure.keeper.acquire(stop):
        return ServiceReport("stopped", {})
    if service.stage == "sink":
        return tenure.work(stop, tenure.make_sinks)
    session = make_session(SocketSession, settings, service)
    watch = _make_sibling_watch(settings, service, tenure.stats)
    alarm = MqttQueueAlarm(settings.mqtt, service.name, tenure.stats)
    presence = PresenceKeeper(settings, service.name, service.streams)
    return tenure.work(stop, lambda finished: [tenure.make_bridge(session, finished), alarm, presence, watch])


class _Tenure:
    """One process's time as the holder of one service.

    Args:
        settings: with the addresses of all servers.
        service: which.
        run_id: Dagster's run, empty outside of one.
    """

    def __init__(self, settings: Settings, service: Service, run_id: str) -> None:
        self._settings = settings
        self._service = service
        self.stats = StageStats()
        self._ended = threading.Event()
        self._closing = ExitStack()
        self.keeper = LeaseKeeper(
            require_address(settings.database.url, "database", "url"),
            Holder(service.name, service.stage, run_id),
            settings.service,
            self.stats,
            on_end=self._ended.set,
            with_accounts=service.stage == "bridge",
        )

    def work(
        self, stop: threading.Event, make_workers: Callable[[Callable[[], bool]], Sequence[Worker]]
    ) -> ServiceReport:
        """Works under the lease that the keeper holds, and releases it.

        Args:
            stop: set from outside to end it.
            make_workers: given a function that says whether it is over already.
        """

        def finished() -> bool:
            return stop.is_set() or self._ended.is_set()

        try:
            with self._closing:
                fenced = _work(make_workers(finished), finished)
        finally:
            self.keeper.release()
        reason = "fenced" if fenced or self.keeper.fenced else "stopped" if stop.is_set() else "handed_over"
        log.info("service_ended", service=self._service.name, reason=reason)
        return ServiceReport(reason, self.stats.snapshot())

    def make_bridge(self, session: SocketSession, finished: Callable[[], bool]) -> Bridge:
        """The service's bridge. It need not wait for Kafka longer than a reading does: it has a spool."""
        settings, service, stats = self._settings, self._service, self.stats
        recount = Recount(settings.kafka, service, self.keeper.counted_before, stats, finished)

        def ask() -> None:
            ensure_topics(settings.kafka, service.streams)
            # Before anything is sent: behind what is read here, every record is ours.
            recount.once()

        answers = _await(ask, finished, settings.bridge.spool_after_s)
        return make_bridge(settings, service, stats, session, ask_kafka=ask, kafka_answers=answers)

    def make_sinks(self, finished: Callable[[], bool]) -> list[Worker]:
        """A sink for each of the service's streams, and the index if it keeps that, once Kafka answers."""
        take_short_turns()
        settings, service, stats = self._settings, self._service, self.stats
        _await(partial(ensure_topics, settings.kafka, service.streams), finished, math.inf)
        producer = KafkaProducer(settings.kafka, f"hl-{service.name}")
        # What it has not delivered was not passed: the successor sends it.
        self._closing.callback(producer.close, 0)
        tracing = open_tracing(settings.tracing.endpoint, service.name)
        workers: list[Worker] = [
            _make_sink(
                settings, service, stream, producer, stats, tracing=tracing, lease_epoch=self.keeper.epoch
            )
            for stream in service.streams
        ]
        if service.keeps_index:
            workers.append(_make_indexer(settings, service, stats))
        return workers


def _make_sibling_watch(settings: Settings, service: Service, stats: StageStats) -> SiblingWatch:
    url = require_address(settings.database.url, "database", "url")

    def carry(name: str, stop: threading.Event) -> None:
        # Without a run of its own, the sensor sees that no run of the sibling's works, and starts one.
        sibling = service._replace(name=name)
        tenure = _Tenure(settings, sibling, "")
        if tenure.keeper.acquire_if_free():
            session = make_session(SocketSession, settings, sibling)
            tenure.work(stop, lambda finished: [tenure.make_bridge(session, finished)])

    def retire(name: str, stop: threading.Event) -> None:
        orphan = service._replace(name=name)
        tenure = _Tenure(settings, orphan, "")
        if not tenure.keeper.acquire_if_free():
            return
        session = make_session(RetiringSession, settings, orphan)

        def done() -> bool:
            accounts = tenure.stats.snapshot().values()
            return session.emptied and all(account.in_flight == 0 for account in accounts)

        tenure.work(stop, lambda finished: [tenure.make_bridge(session, finished), Until(done)])
        if session.ended:
            retire_service(url, name, settings.service.stale_after_s)

    return SiblingWatch(
        url=url,
        host=service.name,
        planned=plan_bridge_names(settings),
        rules=settings.service,
        carry=carry,
        retire=retire,
        on_clock=lambda database: compare_clocks(stats, time.time(), database),
    )


def _await(ask: Callable[[], None], finished: Callable[[], bool], patience_s: float) -> bool:
    """Asks Kafka for something; returns whether it answered before patience ended."""
    until = time.monotonic() + patience_s
    while not finished() and time.monotonic() < until:
        try:
            ask()
        except TransientError as exc:
            log.warning("kafka_away", error=str(exc))
            time.sleep(RETRY_S)
        else:
            return True
    return False


def _make_sink(
    settings: Settings,
    service: Service,
    stream: Stream,
    producer: KafkaProducer,
    stats: StageStats,
    *,
    tracing: Tracing | None,
    lease_epoch: int,
) -> StreamSink:
    url = require_address(settings.database.url, "database", "url")
    return StreamSink(
        stream=stream,
        consumer=GroupConsumer(
            settings.kafka, stream.consumer_group, stream.kafka_topic, f"hl-{service.name}"
        ),
        store=SinkStore(
            url,
            stream,
            service.name,
            lease_epoch=lease_epoch,
            retention_days=settings.sink.raw_retention_days,
        ),
        producer=producer,
        sink=settings.sink,
        rules=settings.reading,
        stats=stats,
        now=_now,
        tracing=tracing,
    )


def _make_indexer(settings: Settings, service: Service, stats: StageStats) -> DeadLetterIndexer:
    url = require_address(settings.database.url, "database", "url")
    topics = [stream.dead_letter_topic for stream in service.streams]
    return DeadLetterIndexer(
        streams=service.streams,
        reader=DeadLetterReader(settings.kafka, CONSUMER_GROUP, topics, f"hl-{service.name}-dead-letters"),
        store=DeadLetterStore(url, service.name),
        stats=stats,
    )


def _work(workers: Sequence[Worker], finished: Callable[[], bool]) -> bool:
    """Runs workers in a thread each until `finished` or until one ends; returns whether they were fenced off."""
    failures: list[Exception] = []
    one_ended = threading.Event()

    def run(worker: Worker) -> None:
        try:
            worker.run()
        except Exception as exc:
            failures.append(exc)
            if isinstance(exc, HlError):
                log.error("worker_ended", kind=type(exc).__name__, error=str(exc))  # noqa: TRY400
            else:
                log.exception("worker_failed")
        finally:
            one_ended.set()

    threads = [threading.Thread(target=run, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    while not finished() and not one_ended.wait(0.1):
        pass
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()
    real = [failure for failure in failures if not isinstance(failure, FencedError)]
    if real:
        raise real[0]
    return bool(failures)


def _now() -> datetime:
    return datetime.now(UTC)
