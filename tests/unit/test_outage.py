from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import DatabaseAwayError, TransientError
from hl_platform.pipeline.outage import Outage

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def outage_at(stats: StageStats, times: list[datetime]) -> Outage:
    return Outage("energy", stats, iter(times).__next__)


def test_an_outage_is_an_alert_while_it_lasts():
    stats = StageStats()
    outage = outage_at(stats, [NOON, NOON + timedelta(seconds=9)])
    outage.met(DatabaseAwayError("no route"))
    assert "no route" in stats.alerts["energy", "database_away"]
    outage.over()
    assert stats.alerts == {}


def test_an_outage_of_kafka_is_called_so():
    stats = StageStats()
    outage_at(stats, [NOON]).met(TransientError("Kafka: no leader"))
    assert [code for _, code in stats.alerts] == ["kafka_away"]


def test_a_long_outage_is_logged_now_and_then_and_not_at_every_try():
    outage = outage_at(StageStats(), [NOON + timedelta(seconds=n) for n in range(100)])
    with capture_logs() as logs:
        for _ in range(90):
            outage.met(DatabaseAwayError("no route"))
        outage.over()
    assert [entry["event"] for entry in logs] == ["database_away"] * 3 + ["outage_over"]
    assert logs[-1]["n_tries"] == 90
