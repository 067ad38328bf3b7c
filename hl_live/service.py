"""What the routes serve from: the feed, the newest readings, the database and the service's own counts."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from dbt_like_sql.engine.project import load_project
from hl_live.chunks import PartCache
from hl_live.feed.fanout import Fanout, Place, RingSize
from hl_live.feed.frames import Frame, Span, decode_records
from hl_live.feed.past import Past
from hl_live.feed.session import Limits, Session
from hl_live.heart import Heart
from hl_live.history import History
from hl_live.kafka_past import KafkaPast
from hl_live.metric_families import FeedFacts
from hl_live.metrics import Metrics
from hl_live.pipeline import PipelineReader
from hl_live.presence import PresenceReader
from hl_live.threads import BoundedThreads, in_thread
from hl_platform.adapters.archive_reader import ArchiveReader
from hl_platform.adapters.directories import archive_directory
from hl_platform.adapters.kafka.feed_reader import FeedReader, FeedRecord
from hl_platform.adapters.postgres.readings import ReadingQueries
from hl_platform.adapters.tracing import Tracing
from hl_platform.core.access import EVERYTHING, Grant
from hl_platform.core.accounts import StageStats
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Batches on their way to the event loop; when it is behind, the reader waits and Kafka keeps the rest.
MAX_BATCHES_AHEAD = 8
STOP_S = 0.7
# How often clients are told their positions, which a quiet device's readings do not tell.
POSITIONS_S = 10.0


class LiveService:
    """One instance of the live service, apart from HTTP.

    Args:
        settings: where Kafka and the database are.
        streams: what is served.
        parts: where parts of answers are kept.
        tracing: where spans of readings go that carry a trace.

    Guarantee: comes up and stays up while Kafka or the database are away, and goes on by itself when they
    are back.
    """

    def __init__(
        self,
        settings: Settings,
        streams: Mapping[str, Stream],
        parts: PartCache,
        tracing: Tracing | None = None,
    ) -> None:
        url = require_address(settings.database.url, "database", "url")
        self.settings = settings
        self.streams = streams
        self.stats = StageStats()
        self.queries = ReadingQueries(settings.database.read_url or url, "hl-live")
        self.parts = parts
        archive = ArchiveReader(settings.database.read_url or url, archive_directory(settings))
        self.threads = BoundedThreads()
        self.history = History(self.queries, archive, self.threads)
        self._suffix = f"-{settings.live.instance}" if settings.live.instance else ""
        groups = {stream.kafka_topic: stream.feed_group + self._suffix for stream in streams.values()}
        self._tracing = tracing
        self.reader = FeedReader(
            settings.kafka, groups, f"hl-live{self._suffix}", self._on_records, traced=tracing is not None
        )
        read_url = settings.database.read_url or url
        self.pipeline = PipelineReader(read_url, groups, self.reader.state)
        self.presence = PresenceReader(read_url)
        self.metrics = Metrics(
            read_url,
            load_project(streams, settings.models_dir),
            settings.service.stale_after_s,
            lambda: FeedFacts(self.reader.state(), groups, self.n_clients, self.n_missed),
        )
        self._heart = Heart(url, settings, self.stats)
        self._decoders = {
            stream.kafka_topic: (stream, ReadingDecoder(stream, settings.reading))
            for stream in streams.values()
        }
        self._names = {stream.kafka_topic: name for name, stream in streams.items()}
        topics = {name: topic for topic, name in self._names.items()}
        self._kafka_past = KafkaPast(settings.kafka, f"hl-live-past{self._suffix}", topics, self._decoders)
        self._past = Past(self._kafka_past.read, self._kafka_past.find_range)
        self.fanout = Fanout(
            streams,
            lambda delay_ms: self.stats.delay("device_to_frame", delay_ms),
            ring=RingSize(settings.live.ring_messages, settings.live.ring_bytes),
            starts=self._starts,
            on_replaced=self._past.forget,
        )
        self._limits = Limits(settings.live.client_queue_messages, settings.live.max_resume_messages)
        self._sessions: set[Session] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = threading.Semaphore(MAX_BATCHES_AHEAD)
        self._stopping = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to read, to beat and to fill `latest`; waits for nobody."""
        self._loop = asyncio.get_running_loop()
        await self.queries.open()
        self._tasks = [asyncio.create_task(self._warm()), asyncio.create_task(self._tell_positions())]
        self._heart.start()
        self.reader.start()

    async def stop(self) -> None:
        """Ends all of it within about a second, whatever is away."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await self._past.close()
        await asyncio.gather(
            in_thread(lambda: self.reader.stop(STOP_S)),
            in_thread(lambda: self._heart.stop(STOP_S)),
            in_thread(self._kafka_past.close),
            self.queries.close(),
        )

    @property
    def n_clients(self) -> int:
        """How many clients the feed has."""
        return len(self._sessions)

    @property
    def n_missed(self) -> int:
        """How many readings clients were too slow for, since the start."""
        return self.fanout.n_missed + sum(session.n_missed for session in self._sessions)

    def open_session(self, grant: Grant = EVERYTHING) -> Session | None:
        """A place for one more client of the feed; None when all are taken."""
        if len(self._sessions) >= self.settings.live.max_clients:
            return None
        session = Session(self.streams, self.fanout, self._past, self._limits, time.monotonic, grant=grant)
        self._sessions.add(session)
        return session

    def close_session(self, session: Session) -> None:
        """Takes the place back, and all that waited."""
        session.close()
        self._sessions.discard(session)

    async def latest(self, stream: Stream, device_ids: Sequence[str] | None) -> list[Reading]:
        """Each device's newest reading, by device.

        Raises:
            TransientError: memory does not hold all devices yet, and the database is away.
        """
        if stream.name not in self.fanout.complete:
            self._put_stored(stream, await self.queries.latest(stream, device_ids))
        return [frame.reading for frame in self.fanout.latest[stream.name].list(device_ids)]

    def _put_stored(self, stream: Stream, readings: Sequence[Reading]) -> None:
        self.fanout.put_stored(stream.name, [Frame(stream, reading, None) for reading in readings])

    def _starts(self) -> dict[Place, int]:
        started_at = self.reader.state().started_at
        return {(self._names[topic], number): offset for (topic, number), offset in started_at.items()}

    def _on_records(self, records: list[FeedRecord]) -> None:
        """In the reader's thread."""
        begun_ns = time.time_ns()
        spans = decode_records(self._decoders, records, self.stats)
        traced = [record for record in records if record.traceparent is not None]
        while not self._slots.acquire(timeout=0.5):
            if self._stopping.is_set():
                return
        try:
            assert self._loop is not None  # noqa: S101 - start() sets it before the reader runs
            self._loop.call_soon_threadsafe(self._receive, spans)
            if traced:
                self._loop.call_soon_threadsafe(self._trace, traced, begun_ns)
        except RuntimeError:
            # The loop has been closed: the process is ending.
            self._slots.release()

    def _receive(self, spans: list[Span]) -> None:
        """In the event loop."""
        self._slots.release()
        self.fanout.publish(spans)
        forwarded: Counter[str] = Counter()
        for span in spans:
            forwarded[span.stream] += len(span.frames)
        for stream, n_frames in forwarded.items():
            self.stats.count(stream, forwarded=n_frames)

    def _trace(self, records: list[FeedRecord], begun_ns: int) -> None:
        """In the event loop, behind the publishing."""
        for record in records:
            if self._tracing is not None and record.traceparent is not None:
                about: dict[str, str | int] = {
                    "hl.stream": self._names[record.kafka_topic],
                    "messaging.destination.partition.id": str(record.kafka_partition),
                    "messaging.kafka.offset": record.offset,
                }
                self._tracing.record("feed.publish", record.traceparent, begun_ns, about)

    async def _tell_positions(self) -> None:
        while True:
            await asyncio.sleep(POSITIONS_S)
            self.fanout.tell_positions()

    async def _warm(self) -> None:
        """Fills `latest` from the database, until nothing can be missing any more."""
        backoff = Backoff(random.Random(), max_s=5.0)  # noqa: S311 - jitter, not secrecy
        while missing := [
            stream for name, stream in self.streams.items() if name not in self.fanout.complete
        ]:
            for stream in missing:
                try:
                    await self._warm_stream(stream)
                except HlError as exc:
                    log.warning("latest_not_filled", stream=stream.name, error=str(exc))
            await asyncio.sleep(backoff.next_s())
        log.info("latest_filled", n_streams=len(self.streams))

    async def _warm_stream(self, stream: Stream) -> None:
        started_at = {
            place: offset
            for place, offset in self.reader.state().started_at.items()
            if place[0] == stream.kafka_topic
        }
        # First how far the sink is, then its rows: these then hold all that lies before our own begin.
        stored = await self.queries.next_offsets(stream.consumer_group)
        self._put_stored(stream, await self.queries.latest(stream))
        if started_at and all(stored.get(place, 0) >= offset for place, offset in started_at.items()):
            self.fanout.complete.add(stream.name)
