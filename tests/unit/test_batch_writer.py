"""Every record of a batch ends as exactly one of row, duplicate, correction and dead letter, whatever happens."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import InvariantError, PoisonRecordError, TransientError
from hl_platform.core.positions import Claim, Reached
from hl_platform.core.readings import Reading
from hl_platform.pipeline.batch import Failure, Item
from hl_platform.pipeline.batch_writer import BatchWriter
from hl_platform.pipeline.draft import make_draft
from hl_platform.streams import load_streams
from tests.fake_store import FakeProducer, FakeStore

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
ENERGY = load_streams()["energy"]
BAD = 66.0
UNDECODABLE = Failure(PoisonRecordError("not_json", "nonsense"), 1, NOON, NOON)


def item(offset: int, second: int = 0, power_kw: float | None = 1.0, received_s: int = 0) -> Item:
    """The record of that offset; without a power it cannot be decoded."""
    record = Record(0, offset, "meter1", b"{}", 0)
    if power_kw is None:
        return Item(record, None, UNDECODABLE)
    at, received_at = NOON + timedelta(seconds=second), NOON + timedelta(seconds=received_s)
    return Item(record, Reading("meter1", at, (1.0, power_kw), None, received_at), None)


def ms(time: datetime) -> int:
    return round(1000 * time.timestamp())


def is_bad(reading: Reading) -> bool:
    return bool(reading.values[1] == BAD)


class House:
    """A batch writer over fakes, and the loop that waits outages out as the sink does."""

    def __init__(
        self,
        rejects: Callable[[Reading], bool] = is_bad,
        goes_away: Callable[[], bool] = lambda: False,
        *,
        stopping: bool = False,
    ) -> None:
        self.store = FakeStore(rejects, goes_away)
        self.producer = FakeProducer()
        self.pauses: list[float] = []
        self.stats = StageStats()
        self.writer = BatchWriter(
            stream=ENERGY,
            store=cast(SinkStore, self.store),
            producer=cast(KafkaProducer, self.producer),
            stats=self.stats,
            now=lambda: NOON,
            pause=lambda seconds: self.pauses.append(seconds) or stopping,  # type: ignore[func-returns-value]
        )
        self.claims = {0: Claim(0, 1)}

    def write(self, items: list[Item]) -> None:
        while left := [item for item in items if item.record.offset >= self.claims[0].next_offset]:
            try:
                self.writer.write(make_draft(left), self.claims)
            except TransientError:
                self.claims[0] = Claim(0, 1).moved_to(self.store.reached.get(0, Reached(0)))

    @property
    def between_tries(self) -> list[float]:
        return [seconds for seconds in self.pauses if seconds > 0]


items = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0, BAD, None]), st.integers(0, 3)), max_size=30
).map(lambda rows: [item(offset, *row) for offset, row in enumerate(rows)])


def breaks(pattern: list[bool]) -> Callable[[], bool]:
    rest: Iterator[bool] = iter(pattern)
    return lambda: next(rest, False)


@given(items, st.integers(1, 30), st.lists(st.booleans(), max_size=20))
def test_every_record_ends_as_exactly_one_thing_through_any_outages(
    given_items: list[Item], batch_size: int, pattern: list[bool]
):
    house = House(goes_away=breaks(pattern))
    for start in range(0, len(given_items), batch_size):
        house.write(given_items[start : start + batch_size])
    account = house.store.account
    dead = Counter(letter.offset for letter in house.producer.letters)
    # A bad reading that a later one of its batch replaces never reaches the table.
    may_be_dead = {i.record.offset for i in given_items if i.reading is None or is_bad(i.reading)}
    assert account.received == len(given_items)
    assert account.in_flight == 0
    assert sum(covered.n_records for covered in house.store.origins.values()) == len(given_items)
    assert account.forwarded == len(house.store.rows)
    assert account.dead_lettered == len(dead)
    assert set(dead) <= may_be_dead
    assert max(dead.values(), default=1) == 1
    assert not [reading for reading in house.store.rows.values() if is_bad(reading)]


@given(items)
def test_a_device_and_time_with_any_good_reading_has_a_row(given_items: list[Item]):
    house = House()
    house.write(given_items)
    good = {i.reading.timestamp for i in given_items if i.reading is not None and not is_bad(i.reading)}
    assert {timestamp for _, timestamp in house.store.rows} == good


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30), st.integers(1, 30))
def test_the_reading_received_last_is_the_row_however_the_batches_fall(
    sent: list[tuple[int, int]], batch_size: int
):
    in_order = [item(n, second, 100.0 + n, received_s) for n, (second, received_s) in enumerate(sent)]
    house = House()
    for start in range(0, len(in_order), batch_size):
        house.write(in_order[start : start + batch_size])
    by_arrival = sorted(range(len(sent)), key=lambda n: (sent[n][1], n))
    last = {NOON + timedelta(seconds=sent[n][0]): 100.0 + n for n in by_arrival}
    assert {timestamp: row.values[1] for (_, timestamp), row in house.store.rows.items()} == last


def test_many_bad_records_cost_two_pauses_together():
    house = House()
    house.write([item(n, n, BAD) for n in range(100)])
    assert len(house.between_tries) == 2
    assert {letter.attempts for letter in house.producer.letters} == {3}


def test_a_batch_without_faults_costs_no_pause_and_no_search():
    house = House()
    house.store.find_rejected = None  # type: ignore[method-assign, assignment]
    house.write([item(n, n) for n in range(100)])
    assert house.pauses == []


def test_a_record_whose_dead_letter_is_sent_is_no_row_even_if_the_table_accepts_it_after_the_outage():
    rejecting = [True]
    # The line breaks when the batch is to be written without the bad record.
    house = House(lambda _: rejecting[0], breaks([False] * 4 + [True]))
    house.pauses = cast(Any, Accepting(rejecting, after=3))
    house.write([item(0)])
    assert house.store.rows == {}
    assert house.store.account.dead_lettered == 1


def test_a_dead_letter_whose_commit_was_answered_too_late_is_not_remembered():
    house = House(goes_away=breaks([False, True]))
    house.write([item(0, power_kw=None)])
    assert house.store.account.dead_lettered == 1
    house.write([item(1)])
    assert not house.writer._sent


class Accepting(list[float]):
    """A list of pauses that makes the table accept everything once so many were made."""

    def __init__(self, rejecting: list[bool], after: int) -> None:
        super().__init__()
        self._rejecting = rejecting
        self._after = after

    def append(self, seconds: float) -> None:
        super().append(seconds)
        self._rejecting[0] = len(self) < self._after


def test_a_batch_that_is_rejected_for_no_record_of_it_is_never_discarded():
    house = House(lambda _: True)
    house.store.find_rejected = lambda _: []  # type: ignore[method-assign, assignment, misc]
    with pytest.raises(InvariantError, match="not allowed"):
        house.write([item(0)])
    assert house.producer.letters == []


def test_stopping_between_two_tries_discards_nothing():
    house = House(stopping=True)
    with pytest.raises(TransientError):
        house.writer.write(make_draft([item(0, 0, BAD)]), house.claims)
    assert house.producer.letters == []


@pytest.mark.parametrize(
    ("record", "n"),
    [({"appended_ms": ms(NOON) + 3}, 1), ({}, 0), ({"appended_ms": ms(NOON) + 3, "replay_of": "a/0/1"}, 0)],
    ids=["noted by Kafka", "not noted", "of a replay"],
)
def test_delay_to_kafka_ends_where_kafka_wrote_the_record(record: dict[str, Any], n: int):
    house, sent = House(), item(0)
    house.write([replace(sent, record=replace(sent.record, **record))])
    delays = house.stats.take_delays()["device_to_kafka"]
    assert (delays.n, delays.max_ms) == (n, 3.0 * n)
