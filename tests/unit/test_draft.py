"""A batch is made ready before the database is asked: its rows, its counts and its delays."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.adapters.postgres.rows import AT, EPOCH, RECEIVED, make_rows, microseconds
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.positions import Reached
from hl_platform.core.probe import PROBE_DEVICE
from hl_platform.core.readings import Reading
from hl_platform.pipeline.batch import Failure, Item
from hl_platform.pipeline.draft import make_draft

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
APPENDED_MS = round(NOON.timestamp() * 1000) + 70
# As devices send them: at an offset that is fixed.
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.timedeltas(timedelta(days=-700_000), timedelta(days=2_900_000)).flatmap(
    lambda since: OFFSETS.map((EPOCH + since).astimezone)
)


def item(
    offset: int, *, device: str = "meter1", late_ms: int = 40, power_kw: float = 1.0, **record: object
) -> Item:
    reading = Reading(device, NOON, (1.0, power_kw), None, NOON + timedelta(milliseconds=late_ms))
    of_kafka = Record(0, offset, device, b"{}", 0, **{"appended_ms": APPENDED_MS, **record})
    return Item(of_kafka, reading, None, "bridge")


@given(st.lists(st.tuples(MOMENTS, MOMENTS), max_size=20))
def test_rows_have_the_times_of_their_readings_to_the_microsecond(
    moments: list[tuple[datetime, datetime]],
) -> None:
    readings = [Reading("m", at, (1.0, None), "{}", received_at) for at, received_at in moments]
    made = make_rows(readings)
    assert [row[0] for row in made.rows] == list(range(len(readings)))
    for row, reading in zip(made.rows, readings, strict=True):
        assert EPOCH + timedelta(microseconds=row[AT]) == reading.timestamp
        assert EPOCH + timedelta(microseconds=row[RECEIVED]) == reading.received_at
        assert row[3:-1] == (1.0, None, "{}")
    assert made.days == {at.astimezone(UTC).date() for at, _ in moments}
    assert made.are_distinct == (len({at for at, _ in moments}) == len(moments))


def test_of_two_readings_of_one_moment_one_is_stored_and_the_other_counted() -> None:
    draft = make_draft([item(0), item(1, power_kw=2.0, late_ms=50), item(2, power_kw=2.0, late_ms=60)])
    assert [reading.values for reading in draft.rows.readings] == [(1.0, 2.0)]
    assert [stored.record.offset for stored in draft.stored] == [2]
    account = draft.account()
    assert (account.received, account.corrected, account.duplicates, account.in_flight) == (3, 1, 1, 1)
    assert draft.reached == {0: Reached(3)}


def test_only_what_devices_sent_tells_when_readings_came_last() -> None:
    of_others = [
        item(1, device="m3", late_ms=70, replay_of="a/0/1"),
        item(2, device="m4", late_ms=80, is_import=True),
    ]
    assert make_draft([item(0), *of_others]).account().last_reading_at == NOON + timedelta(milliseconds=40)
    assert make_draft(of_others).account().last_reading_at is None


def test_each_try_begins_with_the_same_counts() -> None:
    draft = make_draft([item(0)])
    draft.account().forwarded += 1
    assert draft.account().forwarded == 0


def test_a_probe_goes_beside_the_table_and_is_no_devices() -> None:
    draft = make_draft([item(0, device=PROBE_DEVICE), item(1, late_ms=30)])
    assert [probe.device_id for probe in draft.probes] == [PROBE_DEVICE]
    assert len(draft.rows.rows) == len(draft.live.sent_us) == 1
    assert draft.account().last_reading_at == NOON + timedelta(milliseconds=30)


def test_what_cannot_be_decoded_is_bound_for_the_dead_letters() -> None:
    fault = Failure(PoisonRecordError("not_json", "nonsense"), 1, NOON, NOON)
    broken = Item(Record(1, 7, None, b"?", 0), None, fault)
    draft = make_draft([item(0), broken])
    assert (draft.rejected, draft.account().dead_lettered) == ([broken], 1)
    assert draft.reached == {0: Reached(1), 1: Reached(8)}


def test_delays_are_those_of_live_readings_of_devices() -> None:
    of_others = [
        item(1, device="m2", late_ms=10_001),
        item(2, device="m3", late_ms=-1_001),
        item(3, device="m4", replay_of="a/0/1"),
        item(4, device="m5", is_import=True),
    ]
    live = make_draft([item(0), item(5, device="m6", appended_ms=None), *of_others]).live
    delays_ms = live.delays_ms(NOON + timedelta(milliseconds=90))
    assert delays_ms == {"device_to_mqtt": [40, 40], "device_to_kafka": [70], "device_to_row": [90, 90]}


@pytest.mark.parametrize("year", [1, 1970, 2000, 9999])
def test_microseconds_are_exact_in_every_year(year: int) -> None:
    moment = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert EPOCH + timedelta(microseconds=microseconds(moment)) == moment
