"""With addresses of the user's own servers, hl starts only the rest."""

from collections.abc import Iterator

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.acceptance.conftest import Installation, temporary_installation, wait_until
from tests.servers import temporary_database


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> Iterator[Installation]:
    with temporary_database(postgres, "household") as database:
        addresses = {
            "HL_DATABASE__URL": database.url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "HL_MQTT__HOST": mosquitto.host,
            "HL_MQTT__PORT": str(mosquitto.port),
            "HL_SIMULATOR__ENABLED": "true",
        }
        with temporary_installation(addresses) as installation:
            done = installation.run("up", "--detach")
            if done.returncode != 0:
                pytest.fail(f"hl up --detach failed: {done.stdout}{done.stderr}", pytrace=False)
            yield installation


def test_servers_of_the_user_are_not_started_a_second_time(stack: Installation) -> None:
    assert not {"postgres", "kafka", "mosquitto"} & set(stack.services())


def test_readings_flow_through_the_servers_of_the_user(stack: Installation) -> None:
    def rows() -> int:
        return int(stack.run("psql", "-At", "-c", "select count(*) from energy_readings").stdout)

    wait_until("readings are rows in the user's database", lambda: rows() > 0)


def test_dagster_keeps_its_tables_apart_in_the_database_of_the_user(stack: Installation) -> None:
    done = stack.run("psql", "-At", "-c", "select to_regclass('dagster.runs'), to_regclass('public.runs')")
    assert done.stdout == "dagster.runs|\n"
