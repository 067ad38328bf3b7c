"""For whom a bridge stands in."""

import pytest

from hl_platform.adapters.postgres.lease_reader import DatabaseClock, LeaseRow
from hl_platform.core.accounts import StageStats
from hl_platform.core.sections import ServiceSettings
from hl_platform.pipeline.stand_in import compare_clocks, plan_orphans, plan_stand_ins

NOW = 1_000_000.0
RULES = ServiceSettings(heartbeat_s=0.5, stale_after_s=3.0)
LONG_UP = DatabaseClock(NOW, NOW - 86_400)


def lease(*, silent_s: float, released_s: float | None = None) -> LeaseRow:
    released_at = None if released_s is None else NOW - released_s
    return LeaseRow("run", "host", 1, NOW - 900, NOW - silent_s, released_at, stop_requested=False)


def test_sibling_that_beats_is_left_alone() -> None:
    assert plan_stand_ins(["b"], {"b": lease(silent_s=0.4)}, LONG_UP, RULES) == []


def test_sensor_gets_the_first_chance_to_replace_a_dead_sibling() -> None:
    assert plan_stand_ins(["b"], {"b": lease(silent_s=4.9)}, LONG_UP, RULES) == []


def test_dead_sibling_is_stood_in_for() -> None:
    assert plan_stand_ins(["b"], {"b": lease(silent_s=5.1)}, LONG_UP, RULES) == ["b"]


@pytest.mark.parametrize(("released_s", "named"), [(4.9, []), (5.1, ["b"])])
def test_sibling_that_was_ended_is_stood_in_for_after_a_handover_had_its_time(
    released_s: float, named: list[str]
) -> None:
    row = lease(silent_s=5.2, released_s=released_s)
    assert plan_stand_ins(["b"], {"b": row}, LONG_UP, RULES) == named


def test_sibling_that_never_ran_has_no_session_to_carry() -> None:
    assert plan_stand_ins(["b"], {}, LONG_UP, RULES) == []


def test_service_that_is_not_a_sibling_is_left_alone() -> None:
    assert plan_stand_ins(["b"], {"c": lease(silent_s=60)}, LONG_UP, RULES) == []


def test_after_an_outage_of_the_database_siblings_get_time_to_beat_again() -> None:
    just_up = DatabaseClock(NOW, NOW - 14.9)
    assert plan_stand_ins(["b"], {"b": lease(silent_s=60)}, just_up, RULES) == []
    assert plan_stand_ins(["b"], {"b": lease(silent_s=60)}, just_up._replace(up_since=NOW - 15.1), RULES) == [
        "b"
    ]


def test_bridge_that_is_not_wanted_any_more_is_an_orphan_after_half_a_minute() -> None:
    leases = {"a": lease(silent_s=99), "b": lease(silent_s=32), "c": lease(silent_s=34)}
    assert plan_orphans(["a"], leases, LONG_UP, RULES) == ["c"]


def test_after_an_outage_of_the_database_nobody_is_an_orphan_for_half_a_minute() -> None:
    just_up = DatabaseClock(NOW, NOW - 32)
    assert plan_orphans(["a"], {"c": lease(silent_s=99)}, just_up, RULES) == []


@pytest.mark.parametrize(("own", "how"), [(NOW + 600, "600 s ahead of"), (NOW - 600, "600 s behind")])
def test_clock_that_differs_from_the_databases_is_told_of_until_it_is_right(own: float, how: str) -> None:
    stats = StageStats()
    compare_clocks(stats, own, NOW)
    assert stats.alerts == {
        ("", "clock_differs"): f"This bridge's clock is {how} the database's. Is NTP running?"
    }
    compare_clocks(stats, NOW + 1, NOW)
    assert stats.alerts == {}
