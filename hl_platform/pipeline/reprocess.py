"""Reprocessing: what was rejected goes the way of every reading again.

The path of one batch, in this order; a crash between any two steps replays it again, which changes nothing:

1. Its entries are locked, so that nobody else takes them.
2. Their bytes are fetched from the dead-letter topics.
3. They are judged by the decoder that the bridge and the sink use; what it rejects has failed again.
4. The others go to the stream's Kafka topic, with the header `hl.replay_of`; Kafka acknowledges them.
5. The new states are committed and the locks fall: only then can the indexer note what the sink rejects.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import structlog

from hl_platform import __version__
from hl_platform.adapters.kafka.letters import LetterRecord, Place
from hl_platform.adapters.kafka.producer import Delivery, KafkaProducer
from hl_platform.adapters.kafka.record_fetcher import RecordFetcher
from hl_platform.adapters.postgres.dead_letter_store import CONSUMER_GROUP
from hl_platform.adapters.postgres.dead_letters import DeadLetterIndex, Rejected
from hl_platform.core.dead_letter_index import Entry, Selection
from hl_platform.core.dead_letters import FIRST_KAFKA_MS, MAX_DETAIL_CHARS, REPLAY_OF, fingerprint_of
from hl_platform.core.errors import PoisonRecordError, TransientError
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.pipeline.judge import Judge, Verdict

log = structlog.get_logger()

MAX_BATCH_ENTRIES = 500
# A dead letter can be a megabyte: what a batch holds in memory is bounded, too.
MAX_BATCH_BYTES = 16_000_000
# How long Kafka may take to acknowledge a batch; its entries are locked meanwhile.
ACKNOWLEDGE_S = 30.0
LOOK_EVERY_S = 0.1
# How long the sink and the index may stand still before we stop waiting for them.
PATIENCE_S = 60.0

# Told what is being done (`judged`, `replayed`, `awaited`), how many are done, and of how many.
Progress = Callable[[str, int, int], None]


class Outcome(NamedTuple):
    """What a reprocessing did.

    Args:
        replay_id: of this reprocessing, in the index.
        n_selected: entries taken; what somebody else was replaying is not among them.
        n_stored: of these, readings that are stored, or were so already.
        n_failed_again: rejected once more.
        impossible: how many cannot be replayed, by reason, see `judge.IMPOSSIBLE`.
        complete: whether the sink and the index have passed all of it; else `n_stored` may still fall.
    """

    replay_id: UUID
    n_selected: int
    n_stored: int
    n_failed_again: int
    impossible: Mapping[str, int]
    complete: bool

    def document(self) -> dict[str, object]:
        """For programs."""
        return {**self._asdict(), "replay_id": str(self.replay_id), "impossible": dict(self.impossible)}


class Reprocessor:
    """Judges entries of the index and replays them.

    Args:
        settings: where the servers are, and which readings are believed.
        streams: by name.
        index: of the dead letters.
        fetcher: of their bytes.
        judge: says what would become of them.
        progress: is told how far it has come.

    Guarantee: entries of one device are replayed in their original order; replaying twice changes nothing.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        streams: Mapping[str, Stream],
        index: DeadLetterIndex,
        fetcher: RecordFetcher,
        judge: Judge,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._streams = streams
        self._index = index
        self._fetcher = fetcher
        self._judge = judge
        self._progress = progress

    def plan(self, selection: Selection, limit: int | None = None) -> Iterator[Verdict]:
        """What would become of each selected entry, in the order of the topics. Changes nothing.

        Args:
            selection: which entries.
            limit: at most so many, the oldest; None for all.

        Raises:
            TransientError: Kafka or the database is away.
        """
        bounded, total = self._bounded(selection, limit)
        after, done = 0, 0
        while done < total:
            n_wanted = min(MAX_BATCH_ENTRIES, total - done)
            entries = _cut(self._index.next_entries(bounded, n_wanted, after))
            if not entries:
                return
            yield from self._judge.try_on_database(self._judge.judge(entries, self._fetch(entries)))
            after, done = entries[-1].id, done + len(entries)
            self._progress("judged", done, total)

    def apply(self, selection: Selection, by: str, limit: int | None = None) -> Outcome:
        """Replays what is selected, and waits until it is known what became of it.

        Args:
            selection: which entries.
            by: who wants it.
            limit: at most so many, the oldest; None for all.

        Raises:
            TransientError: Kafka or the database is away; what was replayed before is noted as replayed.
        """
        bounded, total = self._bounded(selection, limit)
        replay_id = uuid4()
        ends: dict[Place, int] = {}
        after, done = 0, 0
        impossible: Counter[str] = Counter()
        # Not found by `replay_id` again: another replay may take an entry after us, and note its own.
        taken: list[int] = []
        producer = KafkaProducer(self._settings.kafka, "hl-reprocess")
        try:
            while done < total:
                n_wanted = min(MAX_BATCH_ENTRIES, total - done)
                with self._index.taking(bounded, n_wanted, after) as locked:
                    entries = _cut(locked)
                    if not entries:
                        break
                    verdicts = self._replay(entries, producer, by, replay_id, ends)
                taken += [verdict.entry.id for verdict in verdicts if verdict.possible]
                impossible.update(verdict.reason for verdict in verdicts if not verdict.possible)
                after, done = entries[-1].id, done + len(entries)
                self._progress("replayed", done, total)
        finally:
            producer.close(0)
        complete = self._await(ends)
        n_stored, n_failed_again = self._index.outcome_of(taken)
        log.info(
            "dead_letters_replayed",
            replay_id=str(replay_id),
            by=by,
            n_selected=done,
            n_stored=n_stored,
            n_failed_again=n_failed_again,
            impossible=dict(impossible),
            complete=complete,
        )
        return Outcome(replay_id, done, n_stored, n_failed_again, impossible, complete)

    def _bounded(self, selection: Selection, limit: int | None) -> tuple[Selection, int]:
        # What is rejected from now on is not meant, or a replay that fails could run for ever.
        n, newest = self._index.count(selection)
        bounded = msgspec.structs.replace(selection, until_id=newest)
        return bounded, n if limit is None else min(n, limit)

    def _fetch(self, entries: Sequence[Entry]) -> dict[int, LetterRecord]:
        places: dict[Place, dict[int, Entry]] = defaultdict(dict)
        for entry in entries:
            place = (entry.dead_letter_topic, entry.dead_letter_partition)
            places[place][entry.dead_letter_offset] = entry
        found = {}
        for place, wanted in places.items():
            for offset, record in self._fetcher.fetch(place, wanted).items():
                entry = wanted[offset]
                # Another time: another record, of a topic that was made anew.
                if record.kafka_time == entry.dead_lettered_at:
                    found[entry.id] = record
        return found

    def _replay(
        self,
        entries: Sequence[Entry],
        producer: KafkaProducer,
        by: str,
        replay_id: UUID,
        ends: dict[Place, int],
    ) -> list[Verdict]:
        """Replays a batch and marks it."""
        verdicts = self._judge.judge(entries, self._fetch(entries))
        good = [verdict for verdict in verdicts if verdict.succeeds]
        self._produce(good, producer, ends)
        if good:
            self._index.mark_replayed([verdict.entry.id for verdict in good], by, replay_id)
        bad = [verdict for verdict in verdicts if verdict.possible and not verdict.succeeds]
        if bad:
            rejected = [_rejected(verdict, self._streams[verdict.entry.stream]) for verdict in bad]
            self._index.mark_failed_again(rejected, by, replay_id, __version__, datetime.now(UTC))
        return verdicts

    def _produce(self, verdicts: Sequence[Verdict], producer: KafkaProducer, ends: dict[Place, int]) -> None:
        arrived: list[tuple[str, Delivery]] = []
        for verdict in verdicts:
            assert verdict.record is not None  # noqa: S101 - what succeeds has one
            topic = self._streams[verdict.entry.stream].kafka_topic
            producer.send(
                topic,
                verdict.record.key,
                verdict.record.value,
                _collector(arrived, topic),
                _headers_of(verdict.entry),
            )
        until_s = time.monotonic() + ACKNOWLEDGE_S
        while len(arrived) < len(verdicts):
            producer.poll(0.1)
            if time.monotonic() > until_s:
                raise TransientError(
                    f"Kafka has not acknowledged the replayed records within {ACKNOWLEDGE_S:g} s."
                )
        for topic, delivery in arrived:
            if delivery.error is not None:
                raise delivery.error
            place = (topic, delivery.kafka_partition)
            ends[place] = max(ends.get(place, 0), delivery.offset + 1)

    def _await(self, ends: Mapping[Place, int]) -> bool:
        """Waits until the sink has passed what was produced and the index what the sink rejected of it."""
        replayed = {stream.kafka_topic: stream for stream in self._streams.values()}
        touched = {topic: replayed[topic] for topic, _ in ends}
        for stream in touched.values():
            wanted = {place: end for place, end in ends.items() if place[0] == stream.kafka_topic}
            if not self._await_group(stream.consumer_group, wanted):
                return False
        topics = {stream.dead_letter_topic for stream in touched.values()}
        letters = {place: self._fetcher.watermarks(place)[1] for place in self._fetcher.places(topics)}
        return self._await_group(CONSUMER_GROUP, letters)

    def _await_group(self, group: str, ends: Mapping[Place, int]) -> bool:
        least: int | None = None
        total = 0
        until_s = time.monotonic() + PATIENCE_S
        while True:
            positions = self._index.positions(group)
            left = sum(max(0, end - positions.get(place, 0)) for place, end in ends.items())
            if left == 0:
                return True
            if least is None or left < least:
                least, until_s = left, time.monotonic() + PATIENCE_S
                total = max(total, left)
                self._progress("awaited", total - left, total)
            if time.monotonic() > until_s:
                log.warning("replay_not_passed", consumer_group=group, n_records=left)
                return False
            time.sleep(LOOK_EVERY_S)


@contextmanager
def reprocessing(
    settings: Settings, streams: Mapping[str, Stream], progress: Progress = lambda *_: None
) -> Iterator[Reprocessor]:
    """A reprocessor for the time of the block.

    Raises:
        ConfigError: a server's address is not set.
    """
    url = require_address(settings.database.url, "database", "url")
    index = DeadLetterIndex(url, "hl-reprocess")
    fetcher = RecordFetcher(settings.kafka, "hl-reprocess")
    judge = Judge(settings, streams)
    try:
        yield Reprocessor(
            settings=settings, streams=streams, index=index, fetcher=fetcher, judge=judge, progress=progress
        )
    finally:
        judge.close()
        fetcher.close()
        index.close()


def rejected_unlike_now(streams: Iterable[Stream]) -> Selection:
    """What another version of hl, or another declaration of its stream, rejected, and nobody has dealt with."""
    digests = {stream.name: stream.digest for stream in streams}
    return Selection(rejected_unlike=(__version__, digests))


def _cut(entries: list[Entry]) -> list[Entry]:
    """As many of the first entries as a batch may hold in memory, at least one if there is one."""
    n_bytes = 0
    for n, entry in enumerate(entries):
        n_bytes += entry.n_bytes
        if n and n_bytes > MAX_BATCH_BYTES:
            return entries[:n]
    return entries


def _rejected(verdict: Verdict, stream: Stream) -> Rejected:
    fault = PoisonRecordError(verdict.reason, verdict.detail)
    fingerprint = fingerprint_of(stream.name, verdict.entry.stage, fault)
    return Rejected(
        verdict.entry.id, verdict.reason, verdict.detail[:MAX_DETAIL_CHARS], fingerprint, stream.digest
    )


def _headers_of(entry: Entry) -> dict[str, str | bytes]:
    headers: dict[str, str | bytes] = {REPLAY_OF: entry.name}
    if entry.kafka_time is not None:
        headers[FIRST_KAFKA_MS] = str(round(entry.kafka_time.timestamp() * 1000))
    return headers


def _collector(arrived: list[tuple[str, Delivery]], topic: str) -> Callable[[Delivery], None]:
    return lambda delivery: arrived.append((topic, delivery))
