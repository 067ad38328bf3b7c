"""Databases and roles of an own PostgreSQL: the owner, a reader, and Dagster apart from both."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated

OWNER = "hl"
READER = "hl_read"
DAGSTER = "dagster"
READER_STATEMENT_TIMEOUT = "60s"
# Iterations make passwords that people choose dear to guess. Those of these roles are 192 random bits, which nobody
# guesses; and Dagster opens a connection for every query, each of which would cost its client 5 ms of a core.
SCRAM_ITERATIONS = 1
VERIFIER = f"SCRAM-SHA-256${SCRAM_ITERATIONS}:"


def ensure_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Makes the roles and databases that are missing; leaves the others as they are.

    Args:
        admin_url: of a superuser.
        passwords: of the roles OWNER, READER and DAGSTER; random, see SCRAM_ITERATIONS.

    Raises:
        TransientError: the server cannot be reached now.
        ConfigError: it refuses the superuser.
    """
    with connect(admin_url, application_name="hl-roles") as conn, translated():
        for role in (OWNER, READER, DAGSTER):
            _ensure_role(conn, role, passwords[role])
        conn.execute(
            sql.SQL("alter role {} set default_transaction_read_only = on").format(sql.Identifier(READER))
        )
        conn.execute(
            sql.SQL("alter role {} set statement_timeout = {}").format(
                sql.Identifier(READER), sql.Literal(READER_STATEMENT_TIMEOUT)
            )
        )
        create_database(conn, OWNER, owner=OWNER, readers=(READER,))
        create_database(conn, DAGSTER, owner=DAGSTER)


def create_database(
    conn: psycopg.Connection, name: str, *, owner: str, readers: tuple[str, ...] = ()
) -> None:
    """Makes a database unless it is there, closed to everyone but its owner and readers."""
    found = conn.execute("select from pg_database where datname = %s", (name,)).fetchone()
    if found is None:
        conn.execute(
            sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(owner))
        )
    conn.execute(sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(name)))
    for reader in readers:
        conn.execute(
            sql.SQL("grant connect on database {} to {}").format(sql.Identifier(name), sql.Identifier(reader))
        )


def _ensure_role(conn: psycopg.Connection, role: str, password: str) -> None:
    row = conn.execute("select rolpassword from pg_authid where rolname = %s", (role,)).fetchone()
    if row is not None and (row[0] or "").startswith(VERIFIER):
        return
    # The driver computes the verifier, by the session's setting, so that the password itself can never come to stand
    # in the server's log.
    conn.execute(sql.SQL("set scram_iterations = {}").format(sql.Literal(SCRAM_ITERATIONS)))
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    if row is None:
        conn.execute(
            sql.SQL("create role {} login nosuperuser nocreatedb nocreaterole").format(sql.Identifier(role))
        )
    conn.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))


def ensure_schema(url: str, schema: str) -> None:
    """Makes a schema unless it is there.

    Raises:
        TransientError: the server cannot be reached now.
        ConfigError: the role may not make one.
    """
    with connect(url, application_name="hl-schema") as conn, translated():
        conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
