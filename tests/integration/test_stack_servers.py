"""The embedded servers keep what they were given, whatever ends them."""

import os
import uuid

import psutil
import pytest
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.roles import DAGSTER, OWNER, READER, ensure_roles
from hl_platform.core.errors import HlError
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import answers_kafka, answers_tcp
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.servers import Database

as_root = os.geteuid() == 0


def _query(url: str, statement: str) -> list[tuple[object, ...]]:
    with connect(url, application_name="test") as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_postgres_owner_is_no_superuser_and_owns_its_database(database: Database) -> None:
    rows = _query(
        database.url,
        "select rolsuper, rolcreaterole, pg_get_userbyid(datdba) from pg_roles, pg_database "
        "where rolname = current_user and datname = current_database()",
    )
    assert rows == [(False, False, "hl")]


def test_postgres_reader_cannot_write(database: Database) -> None:
    assert _query(database.read_url, "show default_transaction_read_only") == [("on",)]


def test_postgres_refuses_a_wrong_password(postgres: EmbeddedPostgres) -> None:
    wrong = postgres.url.replace("postgresql://hl:", "postgresql://hl:wrong")
    with pytest.raises(HlError, match="password authentication failed"):
        connect(wrong, application_name="test")


def test_postgres_killed_keeps_what_was_committed(own_postgres: EmbeddedPostgres) -> None:
    _query(own_postgres.url, "create table kept as select 42 as answer")
    own_postgres.kill()
    own_postgres.restart()
    assert _query(own_postgres.url, "select answer from kept") == [(42,)]


def test_random_passwords_cost_a_connection_no_iterations_also_those_of_before(
    own_postgres: EmbeddedPostgres,
) -> None:
    url = own_postgres.url
    with connect(own_postgres.admin_url, application_name="hl-test") as conn:
        password = own_postgres.url.split(":")[2].partition("@")[0]
        conn.execute(sql.SQL("alter role hl password {}").format(sql.Literal(password)))
        passwords = {role: own_postgres._password(role) for role in (OWNER, READER, DAGSTER)}
        ensure_roles(own_postgres.admin_url, passwords)
        verifiers = conn.execute(
            "select distinct left(rolpassword, 16) from pg_authid where rolname = any(%s)", (list(passwords),)
        ).fetchall()
    assert verifiers == [("SCRAM-SHA-256$1:",)]
    connect(url, application_name="hl-test").close()


def test_passwords_are_closed_to_others(postgres: EmbeddedPostgres) -> None:
    secrets = postgres._layout.secrets
    modes = {path.stat().st_mode & 0o777 for path in secrets.iterdir()}
    assert (secrets.stat().st_mode & 0o777, modes) == (0o700, {0o600})


def test_servers_run_as_an_unprivileged_user_on_loopback_only(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> None:
    processes = [psutil.Process(server.pid) for server in (postgres, kafka, mosquitto)]
    users = {process.username() for process in processes}
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    expected = "hl" if as_root else psutil.Process().username()
    assert (users, addresses) == ({expected}, {"127.0.0.1"})


def test_kafka_killed_answers_again_with_its_identity(own_kafka: EmbeddedKafka) -> None:
    identity = (own_kafka._directory / "data" / "meta.properties").read_text()
    own_kafka.kill()
    assert not answers_kafka(own_kafka.port)
    own_kafka.restart()
    assert (own_kafka._directory / "data" / "meta.properties").read_text() == identity


def test_stopped_server_leaves_its_port(own_mosquitto: EmbeddedMosquitto) -> None:
    own_mosquitto.stop()
    assert not answers_tcp(own_mosquitto.port)


def test_database_names_are_unique(database: Database, postgres: EmbeddedPostgres) -> None:
    assert uuid.UUID(database.name.removeprefix("test_").ljust(32, "0"))
    assert database.url != postgres.url
