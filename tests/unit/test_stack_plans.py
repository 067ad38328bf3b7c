"""What the stack decides before it starts anything."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.stack import users
from hl_platform.stack.addresses import plan_ports, resolve_environment, with_search_path, with_simulator
from hl_platform.stack.checks import check_ports
from hl_platform.stack.connection import read_connection, write_connection
from hl_platform.stack.display import duration_text, without_password
from hl_platform.stack.java import find_java
from hl_platform.stack.layout import Layout, make_directories, plan_directories

OWN = {
    "HL_MQTT__HOST": "broker.home",
    "HL_KAFKA__BOOTSTRAP_SERVERS": "kafka.home:9092",
    "HL_DATABASE__URL": "postgresql://me:secret@db.home/house",
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", tmp_path / "cache", None)
    make_directories(layout)
    return layout


def test_default_ports_are_the_documented_ones() -> None:
    ports = {use.purpose: use.port for use in plan_ports(load_settings({}))}
    assert ports == {
        "the page and the API": 8000,
        "Dagster": 3000,
        "MQTT": 1883,
        "Kafka": 9092,
        "PostgreSQL": 5432,
    }


def test_servers_of_the_user_need_no_port_here() -> None:
    assert {use.purpose for use in plan_ports(load_settings(OWN))} == {"the page and the API", "Dagster"}


def test_simulator_runs_with_an_own_broker() -> None:
    assert with_simulator(load_settings({}))


def test_simulator_never_publishes_into_a_real_home_unasked() -> None:
    assert not with_simulator(load_settings(OWN))


def test_simulator_publishes_into_a_real_home_when_told_to() -> None:
    assert with_simulator(load_settings({**OWN, "HL_SIMULATOR__ENABLED": "true"}))


def test_children_get_every_address(layout: Layout) -> None:
    resolved, environment = resolve_environment(load_settings({}), layout, {"PATH": "/bin"})
    assert load_settings(environment) == resolved
    assert (resolved.mqtt.host, resolved.kafka.bootstrap_servers) == ("127.0.0.1", "127.0.0.1:9092")


def test_children_get_urls_of_three_roles(layout: Layout) -> None:
    resolved, _ = resolve_environment(load_settings({}), layout, {})
    urls = (resolved.database.url, resolved.database.read_url, resolved.dagster.database_url)
    assert [without_password(url or "") for url in urls] == [
        "postgresql://hl@127.0.0.1:5432/hl",
        "postgresql://hl_read@127.0.0.1:5432/hl",
        "postgresql://dagster@127.0.0.1:5432/dagster",
    ]


def test_dagster_gets_a_schema_in_the_database_of_the_user(layout: Layout) -> None:
    resolved, _ = resolve_environment(load_settings(OWN), layout, OWN)
    assert resolved.dagster.database_url == with_search_path(OWN["HL_DATABASE__URL"], "dagster")


def test_search_path_is_added_to_options_that_are_there() -> None:
    url = with_search_path("postgresql://a:b@h/d?options=-c%20x%3D1&sslmode=require", "s")
    assert url == "postgresql://a:b@h/d?options=-c%20x%3D1%20-c%20search_path%3Ds&sslmode=require"


def test_port_that_is_wanted_twice_names_both_settings() -> None:
    twice = load_settings({**OWN, "HL_DAGSTER__PORT": "8123", "HL_LIVE__PORT": "8123"})
    with pytest.raises(ConfigError, match=r"Port 8123 .*HL_LIVE__PORT.*HL_DAGSTER__PORT"):
        check_ports(plan_ports(twice))


def test_commands_find_the_addresses_of_the_running_stack(layout: Layout) -> None:
    _, environment = resolve_environment(load_settings({}), layout, {})
    write_connection(layout, environment)
    found = read_connection({"HL_DATA_DIR": str(layout.data_dir)})
    assert load_settings(found).kafka.bootstrap_servers == "127.0.0.1:9092"


def test_address_in_the_environment_wins_over_the_running_stack(layout: Layout) -> None:
    write_connection(layout, {"HL_MQTT__HOST": "127.0.0.1"})
    given = {"HL_DATA_DIR": str(layout.data_dir), "HL_MQTT__HOST": "broker.home"}
    assert read_connection(given)["HL_MQTT__HOST"] == "broker.home"


def test_directories_are_absolute() -> None:
    data, runtime = plan_directories(load_settings({"HL_DATA_DIR": "here", "HL_RUNTIME_DIR": "~/cache"}))
    assert (data, runtime) == (Path.cwd() / "here", Path.home() / "cache")


def test_shared_directories_are_closed_to_others(layout: Layout) -> None:
    assert {path.stat().st_mode & 0o777 for path in (layout.secrets, layout.logs, layout.run)} == {0o700}


class _Entry(NamedTuple):
    pw_uid: int = 64_001
    pw_gid: int = 64_001


def test_closed_folder_on_the_way_is_named_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(users.pwd, "getpwnam", lambda _name: _Entry())
    with pytest.raises(ConfigError, match="may not enter"):
        users.check_reachable(home / "hl", "hl")
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("banner", "problem"),
    [('openjdk version "11.0.27" 2025-04-15', "is Java 11"), ('java version "1.8.0_202"', "is Java 8")],
)
def test_old_java_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, banner: str, problem: str
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{banner}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match=problem):
        find_java()


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (300, "5 min"), (9_000, "2.5 h"), (200_000, "2.3 d")]
)
def test_duration_is_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
