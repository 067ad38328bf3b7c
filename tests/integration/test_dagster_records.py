"""What Dagster keeps and forgets, in its real storage on PostgreSQL: health on assets, old runs, old events."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.dagster_events import forget_runless_events
from hl_platform.adapters.postgres.leases import Holder, Lease
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.accounts import StageStats
from hl_platform.core.settings import Settings, load_settings
from hl_platform.defs.health import build_checks, build_sensor, dead_letter_key, kafka_key, table_key
from hl_platform.defs.housekeeping import build_job
from hl_platform.defs.runs import forget_runs
from hl_platform.stack.dagster_instance import dagster_environment, write_dagster_home
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.streams import load_streams
from tests.servers import temporary_database

STREAMS = load_streams()
ENERGY = STREAMS["energy"]


@pytest.fixture(scope="module")
def dagster_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    with temporary_database(postgres, f"test_{uuid.uuid4().hex[:12]}") as database:
        yield database.url


@pytest.fixture(scope="module")
def shared_instance(
    dagster_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """Configured by the very dagster.yaml that `hl up` writes."""
    home = tmp_path_factory.mktemp("dagster")
    write_dagster_home(home, "127.0.0.1", 4000, n_services=2)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in dagster_environment(home, dagster_url).items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    shared_instance.wipe()
    return shared_instance


@pytest.fixture
def settings(database_url: str, dagster_url: str) -> Settings:
    migrate(database_url, None, STREAMS.values())
    return load_settings(
        {
            "HL_DATABASE__URL": database_url,
            "HL_DAGSTER__DATABASE_URL": dagster_url,
            # Nobody listens there: Kafka is away in all of these tests.
            "HL_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        }
    )


def count(settings: Settings, *, received: int, forwarded: int, lost: int = 0) -> None:
    """Bridge and sink have carried energy readings."""
    with connect(settings.database.url or "", application_name="hl-test") as conn:
        for stage in ("bridge", "sink"):
            conn.execute(
                "insert into hl.accounts (service, stage, stream, received, forwarded, dropped, last_reading_at) "
                "values (%(stage)s, %(stage)s, 'energy', %(received)s, %(forwarded)s, %(dropped)s, now()) "
                "on conflict (service, stream) do update set received = excluded.received, "
                "forwarded = excluded.forwarded, dropped = excluded.dropped, last_reading_at = now()",
                {
                    "stage": stage,
                    "received": received,
                    "forwarded": forwarded,
                    "dropped": received - forwarded - lost,
                },
            )
            conn.execute(
                "insert into hl.coverage (stage, bridge, stream, kind, kafka_topic, kafka_partition, n_records, "
                "next_offset) values (%(stage)s, 'bridge', 'energy', 'forwarded', %(topic)s, 0, %(n)s, %(n)s) "
                "on conflict (stage, bridge, stream, kind, kafka_topic, kafka_partition) "
                "do update set n_records = excluded.n_records, next_offset = excluded.next_offset",
                {"stage": stage, "topic": ENERGY.kafka_topic, "n": forwarded},
            )
        conn.execute(
            "insert into hl.offsets (consumer_group, kafka_topic, kafka_partition, first_offset, next_offset, "
            "epoch, service) values (%s, %s, 0, 0, %s, 1, 'sink') "
            "on conflict (consumer_group, kafka_topic, kafka_partition) "
            "do update set next_offset = excluded.next_offset",
            (ENERGY.consumer_group, ENERGY.kafka_topic, received),
        )


def beat(settings: Settings, *, age_s: float) -> None:
    """Bridge and sink showed a heartbeat some seconds ago."""
    with connect(settings.database.url or "", application_name="hl-test") as conn:
        for service in ("bridge", "sink"):
            conn.execute(
                "insert into hl.leases (service, stage, epoch, instance_id, run_id, host, pid, software_version, "
                "acquired_at, beat_at) values (%(service)s, %(service)s, 1, 'i', 'r', 'h', 1, '0', now(), "
                "now() - make_interval(secs => %(age_s)s)) "
                "on conflict (service) do update set beat_at = excluded.beat_at",
                {"service": service, "age_s": age_s},
            )


def tick(settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One evaluation of the health sensor, its events stored as the daemon stores them."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = build_sensor(settings, STREAMS)(context)
    assert isinstance(result, dg.SensorResult)
    for event in result.asset_events or []:
        instance.report_runless_asset_event(event)
    return result


def shown(result: dg.SensorResult) -> set[dg.AssetKey]:
    return {
        event.asset_key for event in result.asset_events or [] if isinstance(event, dg.AssetMaterialization)
    }


def checked(result: dg.SensorResult) -> dict[str, bool]:
    return {
        event.check_name: event.passed
        for event in result.asset_events or []
        if isinstance(event, dg.AssetCheckEvaluation)
        and event.asset_key in (kafka_key(ENERGY), table_key(ENERGY))
    }


def descriptions(result: dg.SensorResult) -> dict[str, str]:
    return {
        event.check_name: event.description or ""
        for event in result.asset_events or []
        if isinstance(event, dg.AssetCheckEvaluation)
        and event.asset_key in (kafka_key(ENERGY), table_key(ENERGY))
    }


def test_figures_of_a_stream_appear_with_its_first_reading(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert shown(tick(settings, instance)) == set()
    count(settings, received=5, forwarded=4)
    assert table_key(ENERGY) in shown(tick(settings, instance))
    event = instance.get_latest_materialization_event(table_key(ENERGY))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["received"].value == 5
    assert metadata["inserted"].value == 4
    assert "dagster/row_count" in metadata


def test_figures_are_shown_without_lag_while_kafka_is_away(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    count(settings, received=5, forwarded=4)
    tick(settings, instance)
    event = instance.get_latest_materialization_event(table_key(ENERGY))
    assert event is not None
    assert event.asset_materialization is not None
    assert "lag" not in event.asset_materialization.metadata


def test_stream_without_dead_letters_shows_none(settings: Settings, instance: dg.DagsterInstance) -> None:
    count(settings, received=5, forwarded=5)
    assert dead_letter_key(ENERGY) not in shown(tick(settings, instance))


def test_nothing_is_shown_twice_within_five_minutes(settings: Settings, instance: dg.DagsterInstance) -> None:
    beat(settings, age_s=0.1)
    count(settings, received=5, forwarded=5)
    cursor = tick(settings, instance).cursor
    count(settings, received=9, forwarded=9)
    assert list(tick(settings, instance, cursor).asset_events or []) == []


def test_checks_pass_while_services_beat_and_accounts_balance(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    beat(settings, age_s=0.1)
    count(settings, received=5, forwarded=4)
    assert set(checked(tick(settings, instance)).values()) == {True}


def test_check_that_changes_is_shown_at_once(settings: Settings, instance: dg.DagsterInstance) -> None:
    beat(settings, age_s=0.1)
    count(settings, received=5, forwarded=4)
    cursor = tick(settings, instance).cursor
    beat(settings, age_s=31.0)
    count(settings, received=6, forwarded=4, lost=1)
    assert checked(tick(settings, instance, cursor)) == {
        "bridge_alive": False,
        "bridge_accounts_balance": False,
        "sink_alive": False,
        "sink_accounts_balance": False,
    }


def test_check_names_the_stage_and_the_interval_where_accounts_do_not_balance(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    beat(settings, age_s=0.1)
    count(settings, received=5, forwarded=5)
    tick(settings, instance)
    with connect(settings.database.url or "", application_name="hl-test") as conn:
        conn.execute("update hl.accounts set forwarded = 3, duplicates = 2 where stage = 'bridge'")
        conn.execute("update hl.coverage set n_records = 4 where stage = 'sink'")
    texts = descriptions(tick(settings, instance))
    assert re.fullmatch(
        r"bridge_to_kafka: 2 records differ, between \S+ \S+ and \S+ \S+ UTC\. "
        r"bridge counts 3 forwarded, and 5 by their offsets on Kafka\.",
        texts["bridge_accounts_balance"],
    )
    assert re.match(
        r"kafka_to_sink: 1 records differ, between \S+ \S+ and \S+ \S+ UTC\. "
        r"Kafka partition 0: bridge wrote 5 records",
        texts["sink_accounts_balance"],
    )


def test_alert_is_named_by_the_check_until_it_is_cleared(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    migrate(settings.database.url or "", None, STREAMS.values())
    lease = Lease(settings.database.url or "", Holder("sink", "sink"), stale_after_s=30)
    lease.try_acquire()
    stats = StageStats()
    stats.alert("energy", "breaker_open", "Half of the readings are rejected. Look into hl dlq list.")
    lease.beat(stats, with_accounts=False)
    raised = tick(settings, instance)
    stats.clear_alert("energy", "breaker_open")
    lease.beat(stats, with_accounts=False)
    cleared = tick(settings, instance)
    lease.close()
    assert descriptions(raised)["no_alerts"] == (
        "sink, breaker_open: Half of the readings are rejected. Look into hl dlq list."
    )
    assert checked(raised)["no_alerts"] is False
    assert checked(cleared)["no_alerts"] is True


def test_check_says_that_a_person_stopped_the_service(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    beat(settings, age_s=60.0)
    run = instance.create_run_for_job(_job("sink"), status=dg.DagsterRunStatus.CANCELED)
    texts = descriptions(tick(settings, instance))
    assert f"A person terminated its run {run.run_id}" in texts["sink_alive"]


def test_checks_can_be_run_by_hand(settings: Settings, instance: dg.DagsterInstance) -> None:
    beat(settings, age_s=0.1)
    count(settings, received=5, forwarded=4)
    defs = dg.Definitions(asset_checks=[build_checks(settings, ENERGY, STREAMS)])
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance)
    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}


def test_old_finished_runs_are_forgotten_with_their_logs(instance: dg.DagsterInstance) -> None:
    runs = [_finished(instance, "bridge") for _ in range(3)]
    log = Path(instance.root_directory) / "logs" / runs[0].run_id / "compute_logs" / "a.err"
    log.parent.mkdir(parents=True)
    log.write_text("line")
    assert forget_runs(instance, datetime.now(UTC) + timedelta(minutes=1)) == 2
    assert instance.get_run_by_id(runs[0].run_id) is None
    assert not log.parent.parent.exists()


def test_newest_run_of_a_service_is_kept_since_it_may_say_that_a_person_stopped_it(
    instance: dg.DagsterInstance,
) -> None:
    newest = _finished(instance, "bridge", dg.DagsterRunStatus.CANCELED)
    forget_runs(instance, datetime.now(UTC) + timedelta(minutes=1))
    assert instance.get_run_by_id(newest.run_id) is not None


def test_young_runs_and_active_runs_and_runs_of_others_are_kept(instance: dg.DagsterInstance) -> None:
    runs = [
        _finished(instance, "models", tags={}),
        _finished(instance, "models", tags={}),
        instance.create_run_for_job(_job("bridge"), status=dg.DagsterRunStatus.STARTED),
        _finished(instance, "bridge"),
        _finished(instance, "bridge"),
    ]
    assert forget_runs(instance, datetime.now(UTC) - timedelta(days=14)) == 0
    assert forget_runs(instance, datetime.now(UTC) + timedelta(minutes=1)) == 1
    assert [run for run in runs if instance.get_run_by_id(run.run_id) is None] == [runs[3]]


def test_old_events_without_a_run_are_forgotten_but_the_newest_of_each_asset(
    instance: dg.DagsterInstance, dagster_url: str
) -> None:
    for n in range(4):
        instance.report_runless_asset_event(dg.AssetMaterialization("table", metadata={"n": n}))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("table"), check_name="alive", passed=n == 3, metadata={}
            )
        )
        instance.report_runless_asset_event(dg.AssetMaterialization("daily", partition=f"2026-01-0{n + 1}"))
    assert forget_runless_events(dagster_url, days=14) == 0
    _backdate(dagster_url)
    # Three materializations; three answers as events, and three as the page's own records.
    assert forget_runless_events(dagster_url, days=14) == 9
    newest = instance.get_latest_materialization_event(dg.AssetKey("table"))
    assert newest is not None
    assert newest.asset_materialization is not None
    assert newest.asset_materialization.metadata["n"].value == 3
    assert len(instance.get_materialized_partitions(dg.AssetKey("daily"))) == 4


def test_housekeeping_job_runs(settings: Settings, instance: dg.DagsterInstance) -> None:
    result = build_job(settings, STREAMS).execute_in_process(instance=instance)
    assert result.success


def _job(name: str, tags: dict[str, str] | None = None) -> dg.JobDefinition:
    @dg.op(name=f"op_of_{name}")
    def nothing() -> None:
        pass

    given = {"service": name, "hl/disposable": "true"} if tags is None else tags

    @dg.job(name=name, tags=given)
    def job() -> None:
        nothing()

    return job


def _finished(
    instance: dg.DagsterInstance,
    name: str,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
    tags: dict[str, str] | None = None,
) -> dg.DagsterRun:
    job = _job(name, tags)
    return instance.create_run_for_job(job, status=status, tags=job.run_tags)


def _backdate(dagster_url: str) -> None:
    with connect(dagster_url, application_name="hl-test") as conn:
        conn.execute("update event_logs set timestamp = timestamp - interval '15 days'")
        conn.execute(
            "update asset_check_executions "
            "set evaluation_event_timestamp = evaluation_event_timestamp - interval '15 days'"
        )
