"""Keeps the index of the dead letters: Kafka to `hl.dead_letters`, beside the sink and out of its way.

The path of one batch, in this order; a crash between any two steps repeats the batch or finds it done:

1. The database says where to go on, with an epoch that fences off whoever came before.
2. Records are read from the dead-letter topics, a bounded number of bounded size.
3. One transaction adds the entries, or marks those whose replays failed again, and moves the positions.
4. Kafka is told the positions, for lag tools to see.
5. A pause follows, many times as long as the work took.
"""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import msgspec
import structlog

from hl_platform.adapters.kafka.dead_letter_reader import DeadLetterReader
from hl_platform.adapters.kafka.letters import LetterRecord, Place
from hl_platform.adapters.postgres.dead_letter_store import DeadLetterStore, FailedReplay, LetterClaim
from hl_platform.core.accounts import StageStats
from hl_platform.core.backoff import Backoff
from hl_platform.core.dead_letter_index import IndexedLetter, preview_of
from hl_platform.core.dead_letters import DeadLetter, fingerprint_of, parse_entry_name
from hl_platform.core.errors import FencedError, HlError, PoisonRecordError, TransientError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

MAX_BATCH_RECORDS = 500
# Share of the time that may go into the index, so that a flood of dead letters leaves the sink beside it alone.
BUSY_SHARE = 0.1
LONGEST_PAUSE_S = 5.0
# Topics and partitions may come later.
LOOK_AGAIN_S = 30.0
ALERT = "dead_letter_index_failed"


class DeadLetterIndexer:
    """Copies what the dead-letter topics hold into the index.

    Args:
        streams: whose dead letters.
        reader: reads their topics.
        store: writes the index.
        stats: takes an alert when the index cannot be kept.
        clock: seconds that only rise.

    Guarantee: every dead letter that Kafka holds becomes one entry, however often it was sent or read; one
    whose replay failed again changes its entry instead. Whatever fails, the sink is not stopped by it.
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        reader: DeadLetterReader,
        store: DeadLetterStore,
        stats: StageStats,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._streams = {stream.dead_letter_topic: stream.name for stream in streams}
        self._reader = reader
        self._store = store
        self._stats = stats
        self._clock = clock
        self._claims: dict[Place, LetterClaim] = {}
        self._look_again_at: float | None = None
        self._stop = threading.Event()

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            FencedError: another process keeps the index.
        """
        backoff = Backoff(random.Random(), max_s=30.0)  # noqa: S311 - jitter, not secrecy
        log.info("dead_letter_index_started", kafka_topics=sorted(self._streams))
        try:
            while not self._stop.is_set():
                try:
                    self._step()
                except FencedError:
                    raise
                except HlError as exc:
                    self._wait_out(exc, backoff)
                else:
                    backoff.reset()
                    self._stats.clear_alert("", ALERT)
        finally:
            self._reader.close()
            self._store.close()

    def stop(self) -> None:
        """Ends `run` after the batch at hand. Any thread."""
        self._stop.set()

    def _wait_out(self, error: HlError, backoff: Backoff) -> None:
        log.warning("dead_letter_index_waits", kind=type(error).__name__, error=str(error))
        if not isinstance(error, TransientError):
            self._stats.alert("", ALERT, f"The index of the dead letters stands still: {error}")
        # Kafka and the database have to be asked again: either may have moved.
        self._look_again_at = None
        self._stop.wait(backoff.next_s())

    def _step(self) -> None:
        if self._look_again_at is None or self._clock() >= self._look_again_at:
            self._take_places()
            self._look_again_at = self._clock() + LOOK_AGAIN_S
        records = self._reader.read(MAX_BATCH_RECORDS)
        began_s = self._clock()
        mine = [record for record in records if self._is_next(record)]
        if mine:
            self._write(mine)
            self._reader.show_position({place: claim.next_offset for place, claim in self._claims.items()})
            busy_s = self._clock() - began_s
            self._stop.wait(min(LONGEST_PAUSE_S, busy_s * (1 / BUSY_SHARE - 1)))

    def _is_next(self, record: LetterRecord) -> bool:
        claim = self._claims.get((record.kafka_topic, record.kafka_partition))
        return claim is not None and record.offset >= claim.next_offset

    def _take_places(self) -> None:
        stored = self._store.claims(self._streams)
        for place, claim in self._claims.items():
            if place not in stored or stored[place].epoch != claim.epoch:
                raise FencedError(f"dead letters of {place} were claimed by another process")
        claims = {place: self._take(place, stored) for place in sorted(self._reader.places())}
        # A new assignment throws away what was read ahead.
        if claims != self._claims or self._look_again_at is None:
            self._claims = claims
            self._reader.start_at({place: claim.next_offset for place, claim in claims.items()})

    def _take(self, place: Place, stored: Mapping[Place, LetterClaim]) -> LetterClaim:
        low, high = self._reader.watermarks(place)
        claim = stored[place] if place in self._claims else self._store.claim(place, low)
        if low <= claim.next_offset <= high:
            return claim
        # Behind: retention was faster than we. Beyond: the topic was made anew, or lost its end with a broker.
        log.error(
            "dead_letters_out_of_range",
            kafka_topic=place[0],
            kafka_partition=place[1],
            next_offset=claim.next_offset,
            low=low,
            high=high,
        )
        self._store.write([], [], {place: claim}, {place: low})
        return claim._replace(next_offset=low)

    def _write(self, records: list[LetterRecord]) -> None:
        letters = [index_letter(record, self._streams[record.kafka_topic]) for record in records]
        next_offsets = {(record.kafka_topic, record.kafka_partition): record.offset + 1 for record in records}
        try:
            self._commit(letters, next_offsets)
        except PoisonRecordError as fault:
            if len(records) > 1:
                middle = len(records) // 2
                self._write(records[:middle])
                self._write(records[middle:])
                return
            # Its headers are no text or number that a column can hold: kept as what it is.
            stream = self._streams[records[0].kafka_topic]
            self._commit([foreign_letter(records[0], stream, fault)], next_offsets)

    def _commit(self, letters: list[IndexedLetter], next_offsets: dict[Place, int]) -> None:
        new, failed = plan_entries(letters)
        self._store.write(new, failed, self._claims, next_offsets)
        for place, next_offset in next_offsets.items():
            self._claims[place] = self._claims[place]._replace(next_offset=next_offset)
        log.debug("dead_letters_indexed", n_new=len(new), n_failed_again=len(failed))


def index_letter(record: LetterRecord, stream: str) -> IndexedLetter:
    """What the index keeps of a record of a stream's dead-letter topic."""
    try:
        letter = DeadLetter.from_headers(record.headers)
    except PoisonRecordError as fault:
        return foreign_letter(record, stream, fault)
    # Told by the topic, so that no header can put an entry under another stream's name.
    return _indexed(record, msgspec.structs.replace(letter, stream=stream))


def foreign_letter(record: LetterRecord, stream: str, fault: PoisonRecordError) -> IndexedLetter:
    """What the index keeps of a record that somebody else put on a dead-letter topic."""
    unknown = DeadLetter(
        stream=stream,
        stage="unknown",
        reason=fault.reason,
        detail=fault.detail[:200],
        fingerprint=fingerprint_of(stream, "unknown", fault),
        first_failed_at=record.kafka_time,
        last_failed_at=record.kafka_time,
        version="",
    )
    return _indexed(record, unknown)


def plan_entries(letters: Sequence[IndexedLetter]) -> tuple[list[IndexedLetter], list[FailedReplay]]:
    """Which dead letters are new entries, and which say that a replay failed again.

    Args:
        letters: in order of offset.

    Returns:
        The new ones, and of the replays one for each replayed record.
    """
    new: list[IndexedLetter] = []
    failed: dict[tuple[object, ...], FailedReplay] = {}
    for letter in letters:
        place = _place_of_replayed(letter)
        if place is None:
            new.append(letter)
        else:
            replay = (letter.kafka_topic, letter.kafka_partition, letter.offset, letter.kafka_time)
            failed.setdefault(replay, FailedReplay(place, letter))
    return new, list(failed.values())


def _place_of_replayed(letter: IndexedLetter) -> tuple[str, int, int] | None:
    if letter.replay_of is None:
        return None
    try:
        return parse_entry_name(letter.replay_of)
    except ValueError:
        return None


def _indexed(record: LetterRecord, letter: DeadLetter) -> IndexedLetter:
    return IndexedLetter(
        **{name: getattr(letter, name) for name in DeadLetter.__struct_fields__},
        dead_letter_topic=record.kafka_topic,
        dead_letter_partition=record.kafka_partition,
        dead_letter_offset=record.offset,
        dead_lettered_at=record.kafka_time,
        n_bytes=len(record.value),
        preview=preview_of(record.value),
    )
