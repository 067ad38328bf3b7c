"""Real servers for tests: on free ports, in a directory of their own, ended by the pid that was started."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.roles import OWNER, READER, create_database
from hl_platform.core.errors import HlError
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import load_settings
from hl_platform.stack.kafka import ClusterNode, EmbeddedKafka, new_kafka_uuid
from hl_platform.stack.layout import Layout, make_directories, plan_layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.server import Server

S = TypeVar("S", bound=Server)


class Database(NamedTuple):
    """A database of one test's own.

    Args:
        name: unique.
        url: as the owner `hl`.
        read_url: as `hl_read`.
    """

    name: str
    url: str
    read_url: str


@contextmanager
def temporary_layout() -> Iterator[Layout]:
    """An empty data directory; the unpacked servers are shared with everyone on this machine."""
    directory = Path(tempfile.mkdtemp(prefix="hl-test-", dir="/tmp"))
    # Passable, not readable: as root the servers run as another user.
    directory.chmod(0o711)
    try:
        layout = plan_layout(load_settings({}))._replace(data_dir=directory / "data")
        make_directories(layout)
        yield layout
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running(server: S) -> Iterator[S]:
    """The server, ready; stopped whatever happens."""
    try:
        try:
            server.start()
            server.wait_ready(120)
        except HlError as exc:
            pytest.fail(f"The tests need a real {server.name}: {exc}", pytrace=False)
        yield server
    finally:
        server.stop()


def new_postgres(layout: Layout) -> EmbeddedPostgres:
    """A PostgreSQL on a free port, not started yet."""
    return EmbeddedPostgres(layout, free_port())


def new_kafka(layout: Layout) -> EmbeddedKafka:
    """A Kafka on a free port, not started yet."""
    return EmbeddedKafka(layout, free_port())


def new_mosquitto(layout: Layout) -> EmbeddedMosquitto:
    """A Mosquitto on a free port, not started yet."""
    return EmbeddedMosquitto(layout, MqttSettings(port=free_port()))


@contextmanager
def kafka_cluster(n_brokers: int) -> Iterator[list[EmbeddedKafka]]:
    """Several brokers in one cluster, each in a directory of its own; all ready, all stopped whatever happens."""
    ports, cluster_id = tuple(free_port() for _ in range(n_brokers)), new_kafka_uuid()
    with ExitStack() as stack:
        brokers = []
        for node_id in range(1, n_brokers + 1):
            layout = stack.enter_context(temporary_layout())
            node = ClusterNode(node_id, ports, cluster_id)
            brokers.append(EmbeddedKafka(layout, free_port(), node=node))
            stack.callback(brokers[-1].stop)
        try:
            # Together: a single one of them has no quorum and never gets ready.
            for broker in brokers:
                broker.start()
            for broker in brokers:
                broker.wait_ready(120)
        except HlError as exc:
            pytest.fail(f"The tests need a real Kafka cluster: {exc}", pytrace=False)
        yield brokers


@contextmanager
def temporary_database(postgres: EmbeddedPostgres, name: str) -> Iterator[Database]:
    """A fresh database, dropped afterwards with whoever is still connected to it."""
    with connect(postgres.admin_url, application_name="hl-test") as conn:
        create_database(conn, name, owner=OWNER, readers=(READER,))
    try:
        yield Database(name, postgres.url_of(OWNER, name), postgres.url_of(READER, name))
    finally:
        # The test may have restarted the server: not the connection from before.
        with connect(postgres.admin_url, application_name="hl-test") as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
