"""Reprocessing in Dagster: the asset, its schedule, and what a materialization shows."""

import dagster as dg
import psycopg
import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream
from hl_platform.defs.dead_letters import ReprocessConfig, build_asset, build_schedule, selection_of
from hl_platform.defs.housekeeping import build_job
from tests.home import Home, eventually


def streams_of(home: Home) -> dict[str, Stream]:
    return {stream.name: stream for stream in home.streams.values()}


def execute(home: Home, statement: str) -> None:
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute(statement)


def reject(home: Home) -> None:
    home.produce(("meter1", b"{nonsense"))
    eventually(lambda: home.query("select 1 from hl.dead_letters"))


def materialize(home: Home, **config: object) -> dict[str, object]:
    """What a materialization shows."""
    asset = build_asset(home.settings, streams_of(home))
    run_config = dg.RunConfig(ops={asset.op.name: ReprocessConfig(**config)})  # type: ignore[arg-type]
    result = dg.materialize([asset], run_config=run_config)
    [event] = result.asset_materializations_for_node(asset.op.name)
    return {
        name: [record.data for record in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.metadata.items()
    }


def test_a_dry_run_is_the_default_and_changes_nothing(home: Home):
    with home.running("sink"):
        reject(home)
        shown = materialize(home, everything=True)
    assert (shown["dry run"], shown["selected"], shown["would succeed"]) == (True, 1, 0)
    assert [record["reason"] for record in shown["by outcome"]] == ["not_json"]  # type: ignore[attr-defined]
    assert home.query("select state from hl.dead_letters") == [("new",)]


def test_a_replay_shows_what_was_stored_and_what_failed_again_and_why(home: Home):
    execute(home, f"alter table {home.energy.table} alter column voltage type smallint")
    with home.running("sink"):
        reject(home)
        shown = materialize(home, stream=home.energy.name, dry_run=False)
    assert (shown["selected"], shown["stored"], shown["failed again"]) == (1, 0, 1)
    assert [record["reason"] for record in shown["failed again because"]] == ["not_json"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"everything": True, "device_id": "meter1"},
        {"stream": "gas"},
        {"since": "yesterday"},
        {"since": "2026-01-01"},
    ],
)
def test_a_configuration_that_says_nothing_or_nonsense_is_refused(home: Home, config: dict[str, object]):
    with pytest.raises(ConfigError):
        selection_of(ReprocessConfig(**config), streams_of(home))  # type: ignore[arg-type]


def test_the_schedule_tries_once_what_another_version_rejected(home: Home):
    schedule = build_schedule(home.settings, streams_of(home))
    with home.running("sink"):
        reject(home)
        assert schedule.evaluate_tick(dg.build_schedule_context()).skip_message
        execute(home, "update hl.dead_letters set version = '0.0.1'")
        tick = schedule.evaluate_tick(dg.build_schedule_context())
        [request] = tick.run_requests or []
        asset = build_asset(home.settings, streams_of(home))
        assert dg.materialize([asset], run_config=request.run_config).success
        assert schedule.evaluate_tick(dg.build_schedule_context()).skip_message
    assert home.query("select state, attempts from hl.dead_letters") == [("failed_again", 2)]


def test_housekeeping_forgets_entries_when_kafka_has_forgotten_their_bytes(home: Home):
    with home.running("sink"):
        reject(home)
    execute(home, "update hl.dead_letters set dead_lettered_at = now() - interval '366 days'")
    result = build_job(home.settings, streams_of(home)).execute_in_process()
    assert result.success
    assert home.query("select 1 from hl.dead_letters") == []
