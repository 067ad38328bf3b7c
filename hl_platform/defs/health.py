"""Live figures and checks on the asset graph, from heartbeats; no run is needed for them."""

import time
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
import msgspec
import structlog

from hl_platform.adapters.kafka.lag import read_lag
from hl_platform.adapters.postgres.health_reader import Health, read_health
from hl_platform.core.errors import TransientError
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.defs.lineage import dead_letter_key, kafka_key, mqtt_key, table_key
from hl_platform.defs.runs import list_runs, newest_was_terminated
from hl_platform.defs.services import job_name_of
from hl_platform.pipeline.comparison import compare_accounts
from hl_platform.pipeline.health import CHECKS, Check, Shown, StreamHealth, judge, plan_events
from hl_platform.pipeline.services import Service, plan_services

log = structlog.get_logger()

LOOK_EVERY_S = 30
KEYS = {"mqtt": mqtt_key, "kafka": kafka_key, "dead_letters": dead_letter_key, "table": table_key}


def build_health(settings: Settings, streams: Mapping[str, Stream]) -> dg.Definitions:
    """The sensor that shows health, and the same checks to be run by hand."""
    return dg.Definitions(
        sensors=[build_sensor(settings, streams)],
        asset_checks=[build_checks(settings, stream, streams) for stream in streams.values()],
    )


def build_sensor(settings: Settings, streams: Mapping[str, Stream]) -> dg.SensorDefinition:
    """The sensor that puts live figures on the assets."""

    @dg.sensor(
        name="show_health",
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Compares the accounts, and shows live figures and checks on the assets: every five minutes while "
            "readings arrive, and at once when a check changes."
        ),
    )
    def show_health(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            compare_accounts(settings, streams.values())
            health = read_health(require_address(settings.database.url, "database", "url"), streams.values())
        except TransientError as exc:
            return dg.SkipReason(f"The database cannot be reached: {exc}")
        judged = judge_all(health, settings, streams, context.instance)
        figures, checks, after = plan_events(judged, decode_cursor(context.cursor), time.time())
        lag = lag_of(health, settings) if figures else {}
        by_name = {each.stream: each for each in judged}
        events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = [
            *(_materialization(streams[name], place, by_name[name], lag) for name, place in figures),
            *(_evaluation(streams[name], check) for name, check in checks),
        ]
        return dg.SensorResult(asset_events=events, cursor=msgspec.json.encode(after).decode())

    return show_health


def build_checks(
    settings: Settings, stream: Stream, streams: Mapping[str, Stream]
) -> dg.AssetChecksDefinition:
    """The checks of one stream."""

    @dg.multi_asset_check(
        name=f"check_{stream.name}",
        specs=[
            dg.AssetCheckSpec(name, asset=KEYS[place](stream), description=description)
            for (place, name), description in CHECKS.items()
        ],
    )
    def check_stream(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        compare_accounts(settings, streams.values())
        health = read_health(require_address(settings.database.url, "database", "url"), streams.values())
        judged = judge_all(health, settings, streams, context.instance)
        for check in next(each for each in judged if each.stream == stream.name).checks:
            yield dg.AssetCheckResult(
                passed=check.passed,
                check_name=check.name,
                asset_key=KEYS[check.place](stream),
                severity=dg.AssetCheckSeverity.WARN,
                description=check.explanation,
            )

    return check_stream


def judge_all(
    health: Health, settings: Settings, streams: Mapping[str, Stream], instance: dg.DagsterInstance
) -> list[StreamHealth]:
    """The health of every stream, knowing which services a person has stopped."""
    services = plan_services(settings, streams)
    stopped = stopped_by_person(services, instance)
    return [judge(health, stream, services, stopped) for stream in streams.values()]


def lag_of(health: Health, settings: Settings) -> dict[str, int]:
    """Records that each consumer group of a sink has still to read; empty while Kafka is away."""
    try:
        return read_lag(settings.kafka, (), health.next_offsets) if health.next_offsets else {}
    except TransientError as exc:
        log.info("lag_unknown", error=str(exc))
        return {}


def stopped_by_person(services: Sequence[Service], instance: dg.DagsterInstance) -> dict[str, str]:
    """The newest run of each service whose newest run was terminated."""
    runs = {service.name: list_runs(instance, job_name_of(service.name)) for service in services}
    return {name: found[0].run_id for name, found in runs.items() if newest_was_terminated(found)}


def decode_cursor(cursor: str | None) -> Shown:
    """What the cursor says was shown; nothing, if it is of another version."""
    try:
        return msgspec.json.decode(cursor, type=Shown) if cursor else Shown()
    except msgspec.MsgspecError:
        return Shown()


def _materialization(
    stream: Stream, place: str, health: StreamHealth, lag: Mapping[str, int]
) -> dg.AssetMaterialization:
    figures = dict(health.figures[place])
    if place == "table" and stream.consumer_group in lag:
        figures["lag"] = lag[stream.consumer_group]
    return dg.AssetMaterialization(KEYS[place](stream), metadata=figures)


def _evaluation(stream: Stream, check: Check) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=KEYS[check.place](stream),
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=check.explanation,
        metadata={},
    )
