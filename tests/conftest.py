"""Fixtures that all tests share. Servers start when the first test asks for them."""

import gc
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hl_platform.stack import net
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import Home
from tests.servers import (
    Database,
    new_kafka,
    new_mosquitto,
    new_postgres,
    running,
    temporary_database,
    temporary_layout,
)

MANY_OPEN_FILES = 200


def pytest_configure() -> None:
    """Gives each process that runs tests ports of its own: those of a server that is down are nobody else's."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    n_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    net.FREE_PORTS = net.FREE_PORTS[number::n_processes]


@pytest.fixture(autouse=True)
def own_log_configuration() -> Iterator[None]:
    """Logs stand beside what a command answers, and what a test configures for them ends with it."""
    before = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def few_open_files() -> Iterator[None]:
    """Ends the clients of Kafka that nobody holds any more: they are in cycles, and paho's select ends at 1,024."""
    yield
    if sum(1 for _ in Path("/proc/self/fd").iterdir()) > MANY_OPEN_FILES:
        gc.collect()


@pytest.fixture
def no_garbage_is_collected() -> Iterator[None]:
    """What a test lets go of ends at once, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def layout() -> Iterator[Layout]:
    """Directories of the servers that the whole session shares."""
    with temporary_layout() as layout:
        yield layout


@pytest.fixture(scope="session")
def postgres(layout: Layout) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL shared by all tests: `.url`, `.read_url`, `.admin_url`. Do not stop it."""
    with running(new_postgres(layout)) as server:
        yield server


@pytest.fixture(scope="session")
def kafka(layout: Layout) -> Iterator[EmbeddedKafka]:
    """A Kafka shared by all tests: `.bootstrap_servers`. Do not stop it; use unique topic names."""
    with running(new_kafka(layout)) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto(layout: Layout) -> Iterator[EmbeddedMosquitto]:
    """A Mosquitto shared by all tests: `.host`, `.port`. Do not stop it; use unique topics."""
    with running(new_mosquitto(layout)) as server:
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """An empty database of the test's own: `.url` as its owner, `.read_url` as the reader."""
    with temporary_database(postgres, f"test_{uuid.uuid4().hex[:12]}") as database:
        yield database


@pytest.fixture
def database_url(database: Database) -> str:
    """The url of an empty database of the test's own, as its owner."""
    return database.url


@pytest.fixture
def own_layout() -> Iterator[Layout]:
    """Directories for servers that one test has for itself."""
    with temporary_layout() as layout:
        yield layout


@pytest.fixture
def own_postgres(own_layout: Layout) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that the test may stop(), kill() and restart()."""
    with running(new_postgres(own_layout)) as server:
        yield server


@pytest.fixture
def own_kafka(own_layout: Layout) -> Iterator[EmbeddedKafka]:
    """A Kafka that the test may stop(), kill() and restart()."""
    with running(new_kafka(own_layout)) as server:
        yield server


@pytest.fixture
def own_mosquitto(own_layout: Layout) -> Iterator[EmbeddedMosquitto]:
    """A Mosquitto that the test may stop(), kill() and restart()."""
    with running(new_mosquitto(own_layout)) as server:
        yield server


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
