"""The code location loads without a server, and everything in it follows from the declarations."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from hl_platform.core.settings import load_settings
from hl_platform.core.streams import Stream
from hl_platform.definitions import defs as whole
from hl_platform.defs.dead_letters import build_dead_letters
from hl_platform.defs.health import build_health
from hl_platform.defs.housekeeping import build_housekeeping
from hl_platform.defs.lineage import build_lineage, lineage_of
from hl_platform.defs.services import build_services
from hl_platform.stack.dagster_instance import render_dagster_yaml, render_workspace_yaml, storage_url
from hl_platform.streams import load_streams

SOLAR = """
name = "solar"
title = "Solar panels"
mqtt_filter = "homelab/solar/#"
kafka_topic = "homelab.solar"
table = "solar_readings"
owner = "roof"
[fields.power_kw]
type = "float"
kind = "gauge"
unit = "kW"
"""


def definitions(**env: str) -> dg.Definitions:
    settings = load_settings(env)
    streams = load_streams(settings.streams_dir)
    return dg.Definitions.merge(
        build_services(settings, streams),
        build_lineage(streams),
        build_health(settings, streams),
        build_dead_letters(settings, streams),
        build_housekeeping(settings, streams),
    )


def job_names(defs: dg.Definitions) -> set[str]:
    return {job.name for job in defs.jobs or []}


def test_code_location_loads_without_servers_or_deprecated_calls() -> None:
    code = "import dagster; from hl_platform.definitions import defs; dagster.Definitions.validate_loadable(defs)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], env={}, check=True)


def test_every_service_has_a_job_and_a_running_sensor() -> None:
    defs = definitions()
    assert job_names(defs) == {"bridge", "sink", "housekeeping", "reprocess_dead_letters"}
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    running = dg.DefaultSensorStatus.RUNNING
    assert sensors == {"keep_bridge_alive": running, "keep_sink_alive": running, "show_health": running}


def test_services_follow_the_settings() -> None:
    defs = definitions(HL_BRIDGE__INSTANCES="2", HL_SINK__LAYOUT="per_stream")
    assert job_names(defs) == {
        "bridge_1", "bridge_2", "sink_energy", "sink_heatpump", "sink_temperature", "housekeeping",
        "reprocess_dead_letters",
    }  # fmt: skip


def test_runs_of_services_are_tagged_whoever_launches_them() -> None:
    job = definitions(HL_BRIDGE__INSTANCES="2").get_job_def("bridge_1")
    assert job.run_tags == {"service": "bridge-1", "hl/disposable": "true"}


def test_stream_of_the_household_gets_its_assets_and_checks(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(SOLAR)
    graph = definitions(HL_STREAMS_DIR=str(tmp_path)).resolve_asset_graph()
    solar = {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == "solar"
    }
    assert solar == {
        "mqtt/solar", "kafka/homelab.solar", "kafka/homelab.solar.dlq", "postgres/solar_readings",
    }  # fmt: skip
    checks = {
        key.name for key in graph.asset_check_keys if key.asset_key.path == ["postgres", "solar_readings"]
    }
    assert checks == {"sink_alive", "sink_accounts_balance", "no_alerts", "newest_reading_fresh"}


def test_lineage_runs_from_device_to_table() -> None:
    mqtt, kafka, dead_letters, table = lineage_of(load_streams()["energy"])
    assert [dep.asset_key for dep in table.deps] == [kafka.key]
    assert [dep.asset_key for dep in kafka.deps] == [mqtt.key]
    assert [dep.asset_key for dep in dead_letters.deps] == [mqtt.key, kafka.key]


@pytest.mark.parametrize("stream", load_streams().values(), ids=lambda stream: stream.name)
def test_every_asset_says_what_it_is_and_whose(stream: Stream) -> None:
    for spec in lineage_of(stream):
        assert spec.description
        assert list(spec.owners) == ["team:home"]
        assert len(spec.kinds) == 1


def test_instance_keeps_its_state_when_the_port_of_the_code_server_changes() -> None:
    locations = [yaml.safe_load(render_workspace_yaml("127.0.0.1", port)) for port in (4000, 4001)]
    names = {location["load_from"][0]["grpc_server"]["location_name"] for location in locations}
    assert names == {"hl"}


def test_instance_sends_nothing_to_the_internet() -> None:
    config = yaml.safe_load(render_dagster_yaml(Path("/data/dagster"), 2))
    assert config["telemetry"] == {"enabled": False}
    assert config["nux"] == {"enabled": False}


def test_every_sensor_that_watches_has_a_thread_and_others_are_left() -> None:
    assert yaml.safe_load(render_dagster_yaml(Path("/d"), 4))["sensors"]["num_workers"] == 8


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p%40@h:1/d", "postgresql://u:p%40@h:1/d?options=-c%20timezone%3DUTC"),
        (
            "postgresql://u@h/d?sslmode=require&options=-c%20x%3D1",
            "postgresql://u@h/d?sslmode=require&options=-c%20x%3D1%20-c%20timezone%3DUTC",
        ),
    ],
)
def test_storage_of_dagster_speaks_utc(given: str, expected: str) -> None:
    assert storage_url(given) == expected


@pytest.mark.parametrize("name", ["energy_hourly", "heatpump_daily", "temperature_yearly"])
def test_a_model_can_be_materialized_by_itself_with_its_checks(name: str) -> None:
    repository = whole.get_repository_def()
    key = dg.AssetKey(["postgres", name])
    jobs = map(repository.get_job, repository.get_implicit_asset_job_names())
    job = next(job for job in jobs if key in job.asset_layer.executable_asset_keys)
    checks = {check for check in repository.asset_graph.asset_check_keys if check.asset_key == key}
    subset = job.get_subset(asset_selection={key}, asset_check_selection=checks)
    assert subset.asset_layer.selected_asset_keys == {key}
    assert checks
