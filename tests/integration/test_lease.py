from collections.abc import Iterator

import pytest

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.leases import Holder, Lease
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import FencedError


@pytest.fixture
def leases(database_url: str) -> Iterator[list[Lease]]:
    migrate(database_url, None, [])
    pair = [Lease(database_url, Holder("bridge", "bridge"), stale_after_s=30) for _ in range(2)]
    yield pair
    for lease in pair:
        lease.close()


def test_a_living_holder_is_asked_to_stop_and_keeps_the_lease(leases: list[Lease]):
    holder, other = leases
    assert holder.try_acquire()
    assert not other.try_acquire()
    assert holder.beat(StageStats(), with_accounts=True)


def test_a_released_lease_goes_to_the_next_with_a_higher_epoch(leases: list[Lease]):
    holder, other = leases
    holder.try_acquire()
    holder.release()
    assert other.try_acquire()
    assert other.epoch == holder.epoch + 1


def test_a_holder_whose_lease_was_taken_is_fenced(leases: list[Lease]):
    holder, other = leases
    holder.try_acquire()
    other.try_acquire(force=True)
    with pytest.raises(FencedError):
        holder.beat(StageStats(), with_accounts=True)


def test_a_stale_heartbeat_gives_the_lease_away(database_url: str, leases: list[Lease]):
    holder, other = leases
    holder.try_acquire()
    with connect(database_url, application_name="test") as conn:
        conn.execute("update hl.leases set beat_at = now() - interval '31 s'")
    assert other.try_acquire()


def test_counts_go_on_where_the_last_holder_ended_without_what_it_had_in_flight(
    database_url: str, leases: list[Lease]
):
    holder, other = leases
    holder.try_acquire()
    stats = StageStats()
    stats.count("energy", received=10, forwarded=7)
    holder.beat(stats, with_accounts=True)
    other.try_acquire(force=True)
    again = StageStats()
    again.count("energy", received=3, forwarded=3)
    other.beat(again, with_accounts=True)
    with connect(database_url, application_name="test") as conn:
        found = conn.execute("select received, forwarded, in_flight from hl.accounts").fetchall()
    assert found == [(10, 10, 0)]


def test_delays_of_one_minute_are_added_up(database_url: str, leases: list[Lease]):
    holder, _ = leases
    holder.try_acquire()
    stats = StageStats()
    for delay_ms in (1.0, 5.0):
        stats.delay("device_to_row", delay_ms)
        holder.beat(stats, with_accounts=False)
    with connect(database_url, application_name="test") as conn:
        rows = conn.execute(
            "select sum(n), max(max_ms) from hl.delays, unnest(counts) as n where measure = 'device_to_row'"
        ).fetchall()
    assert rows == [(2, 5.0)]
