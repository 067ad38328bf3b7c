"""The store in memory, which property tests use, does what the real one does."""

from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hl_platform.adapters.postgres.reading_rows import MIN_INSERT_ROWS, N_CAREFUL, Written
from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.accounts import Account
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.positions import Claim, Reached
from hl_platform.core.readings import Reading
from tests.fake_store import FakeStore
from tests.home import Home

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
BAD = 66.0

# By second, so that no two of a batch have the same.
batches = st.lists(
    st.dictionaries(
        st.integers(0, 4),
        st.tuples(st.sampled_from([1.0, 2.0, BAD]), st.sampled_from([None, '{"a": 1}']), st.integers(0, 3)),
        max_size=5,
    ),
    max_size=6,
)


def readings_of(batch: dict[int, tuple[float, str | None, int]]) -> list[Reading]:
    return [
        Reading(
            "meter1",
            NOON + timedelta(seconds=second),
            (1.0, power_kw, None, None),
            extra,
            NOON + timedelta(seconds=s),
        )
        for second, (power_kw, extra, s) in batch.items()
    ]


def fillers(n_batch: int) -> list[Reading]:
    """New readings that make a batch large enough to be inserted first."""
    begin = NOON - timedelta(days=1) + timedelta(seconds=n_batch * MIN_INSERT_ROWS)
    return [
        Reading("filler", begin + timedelta(seconds=n), (1.0, 1.0, None, None), None, NOON)
        for n in range(MIN_INSERT_ROWS)
    ]


def write(
    store: FakeStore | SinkStore, readings: list[Reading], claim: Claim
) -> tuple[list[int], str, Written | None, Account]:
    """What both stores must agree on."""
    account = Account(received=len(readings))
    rejected = [index for index, _ in store.find_rejected(readings)]
    try:
        written = store.write(
            make_rows(readings), {0: claim}, {0: Reached(claim.next_offset + 1)}, account, {}
        )
    except PoisonRecordError as fault:
        return rejected, fault.reason, None, Account()
    return rejected, "", written, account


@settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given_batches=batches, large=st.booleans())
def test_the_store_in_memory_does_what_the_real_one_does(
    home: Home, *, given_batches: list[dict[int, tuple[float, str | None, int]]], large: bool
):
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute(f"alter table {home.energy.table} drop constraint if exists not_66")
        conn.execute(f"truncate {home.energy.table}, hl.offsets")
        conn.execute(f"alter table {home.energy.table} add constraint not_66 check (power_kw <> {BAD})")
    real = home.sink_store("sink")
    fake = FakeStore(lambda reading: bool(reading.values[1] == BAD))
    claim = real.claim(0, 0, None)
    for number, batch in enumerate(given_batches):
        readings = readings_of(batch) + (fillers(number) if large else [])
        outcome = write(real, readings, claim)
        assert write(fake, readings, claim) == outcome
        if outcome[2] is not None:
            claim = claim._replace(next_offset=claim.next_offset + 1)
    real.close()
    stored = home.query("select device_id, timestamp, power_kw, received_at from {energy} order by timestamp")
    rows = sorted(fake.rows.values(), key=lambda reading: reading.timestamp)
    assert stored == [(row.device_id, row.timestamp, row.values[1], row.received_at) for row in rows]


def test_a_large_batch_is_inserted_unless_readings_are_there_already(home: Home):
    real = home.sink_store("sink")
    claim = real.claim(0, 0, None)
    fresh, later, last = fillers(0), fillers(1), fillers(2)
    corrected = replace(fresh[0], values=(1.0, 2.0, None, None))
    for number, (readings, expected) in enumerate(
        [
            (fresh, Written(MIN_INSERT_ROWS, 0)),
            ([*later, corrected, fresh[1]], Written(MIN_INSERT_ROWS, 1)),
            ([*last, *later], Written(MIN_INSERT_ROWS, 0)),
        ]
    ):
        account = Account(received=len(readings))
        here = claim._replace(next_offset=number)
        assert real.write(make_rows(readings), {0: here}, {0: Reached(number + 1)}, account, {}) == expected
        assert account.in_flight == 0
    assert real._rows._n_careful == N_CAREFUL - 1
    real.close()
    assert home.query("select count(*), sum(corrections) from {energy}") == [(3 * MIN_INSERT_ROWS, 1)]
