"""Households for the tests of this folder, on the servers of tests/conftest.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import Home
from tests.servers import new_mosquitto, running


@pytest.fixture
def home(database_url: str, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto) -> Home:
    made = Home(database_url, kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
    made.prepare()
    return made


@pytest.fixture
def home_of_its_own(database_url: str, own_kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto) -> Home:
    """A household whose Kafka may be killed."""
    made = Home(database_url, own_kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
    made.prepare()
    return made


@pytest.fixture
def home_on_own_postgres(
    own_postgres: EmbeddedPostgres, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> Home:
    """A household whose PostgreSQL may be killed."""
    made = Home(own_postgres.url, kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
    made.prepare()
    return made


@pytest.fixture
def closed_mosquitto(own_layout: Layout) -> Iterator[EmbeddedMosquitto]:
    """A broker that wants a password and has none on file, so that everyone is refused."""
    server = new_mosquitto(own_layout)
    server.prepare()
    file = Path(server.command().argv[-1])
    file.write_text(file.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    server.prepare = lambda: None  # type: ignore[method-assign]
    with running(server):
        yield server
