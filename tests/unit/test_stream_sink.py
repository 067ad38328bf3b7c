"""The sink reads on while the database works: what it has read ahead must never overtake a batch that was given up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.adapters.postgres.reading_rows import Written
from hl_platform.adapters.postgres.rows import Rows
from hl_platform.core.accounts import Account, StageStats
from hl_platform.core.coverage import Covered
from hl_platform.core.errors import DatabaseAwayError, FencedError
from hl_platform.core.positions import Claim, Reached
from hl_platform.core.readings import Reading, ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings, SinkSettings
from hl_platform.pipeline.sink import StreamSink
from hl_platform.streams import load_streams
from tests.fake_consumer import TOPIC, OnePartition

NOW = datetime(2026, 1, 3, 16, 0, 1, tzinfo=UTC)
ENERGY = load_streams()["energy"]
N_RECORDS = 6
BATCH = 2


def record(offset: int) -> Record:
    payload = (
        b'{"timestamp":"2026-01-03T16:00:%02dZ","total_energy_kwh":1,"power_kw":1,"voltage":1,"current":1}'
        % offset
    )
    source = Source("homelab/energy/meter1", 1, retained=False, bridge="bridge")
    key, value = ReadingDecoder(ENERGY, ReadingSettings()).encode_record(payload, NOW, source)
    return Record(0, offset, key, value, 0)


class Topic(OnePartition):
    """A consumer of one partition, which begins where it is told to."""

    def __init__(self) -> None:
        super().__init__(0, N_RECORDS)
        self.offset: int | None = None
        self.shown: list[Mapping[int, int]] = []

    def start_at(self, offsets: Mapping[int, int]) -> None:
        self.offset = offsets[0]

    def resume(self) -> None: ...

    def consume(self, _max_records: int, _max_age_s: float) -> list[Record]:
        if self.offset is None:
            return []
        first, self.offset = self.offset, min(self.offset + BATCH, N_RECORDS)
        return [record(offset) for offset in range(first, self.offset)]

    def show_position(self, next_offsets: Mapping[int, int]) -> None:
        self.shown.append(next_offsets)

    def close(self) -> None: ...


class Table:
    """A store that fails as it is told to, and stops the sink when all is written."""

    def __init__(self, failures: Sequence[Exception | None]) -> None:
        self.row = Claim(0, 0, None, TOPIC)
        self.failures = list(failures)
        self.written: list[int] = []
        self.sink: StreamSink

    def claim(self, _partition: int, _low: int, _topic_id: UUID) -> Claim:
        self.row = self.row._replace(epoch=self.row.epoch + 1)
        return self.row

    def claims(self, _partitions: object) -> dict[int, Claim]:
        return {0: self.row}

    def write(
        self,
        batch: Rows,
        claims: Mapping[int, Claim],
        reached: Mapping[int, Reached],
        _account: Account,
        _origins: Mapping[tuple[int, str], Covered],
        *,
        probes: Sequence[Reading],
    ) -> Written:
        assert not probes
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, DatabaseAwayError):
            # It is back for the next one who asks.
            self.sink.stop()
        if failure is not None:
            raise failure
        assert claims[0] == self.row
        self.row = claims[0].moved_to(reached[0])
        self.written += [reading.timestamp.second for reading in batch.readings]
        if self.row.next_offset == N_RECORDS:
            self.sink.stop()
        return Written(len(batch.rows), 0)

    def close(self) -> None: ...


def run(failures: Sequence[Exception | None], next_offset: int = 0) -> tuple[Topic, Table]:
    topic, table = Topic(), Table(failures)
    table.row = table.row._replace(next_offset=next_offset)
    table.sink = StreamSink(
        stream=ENERGY,
        consumer=topic,  # type: ignore[arg-type]
        store=table,  # type: ignore[arg-type]
        producer=None,  # type: ignore[arg-type]
        sink=SinkSettings(),
        rules=ReadingSettings(),
        stats=StageStats(),
        now=lambda: NOW,
    )
    table.sink.run()
    return topic, table


def test_all_is_written_once_and_in_order():
    topic, table = run([])
    assert table.written == list(range(N_RECORDS))
    assert topic.shown[-1] == {0: N_RECORDS}


def test_the_position_that_is_shown_is_that_of_the_claims_as_they_are_now():
    topic, table = run([], next_offset=4)
    # Before a batch is written, so that nothing is shown any more of a partition which went to another.
    assert topic.shown[0] == {0: 4}
    assert table.written == [4, 5]


def test_nothing_overtakes_a_batch_that_was_given_up_because_the_sink_is_to_stop():
    _, table = run([None, DatabaseAwayError("away")])
    assert table.written == [0, 1]


def test_what_was_read_ahead_of_a_batch_that_is_not_ours_is_not_written_under_its_claim():
    _, table = run([None, FencedError("another's")])
    assert table.written == list(range(N_RECORDS))
    assert table.row.epoch == 2
