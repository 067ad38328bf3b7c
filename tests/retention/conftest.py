"""Two databases for each test: one that drops, and one that keeps everything."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.roles import OWNER
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.retention.home import House, Keeper, prepare
from tests.servers import temporary_database

Pair = tuple[House, Keeper]


@pytest.fixture(scope="session")
def templates(postgres: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Name of a database that is ready for a time zone, to be copied; made once for each zone."""
    with ExitStack() as stack:
        made: dict[str, str] = {}

        def template(timezone: str) -> str:
            if timezone not in made:
                database = stack.enter_context(temporary_database(postgres, f"test_{uuid.uuid4().hex[:12]}"))
                prepare(database.url, timezone)
                made[timezone] = database.name
            return made[timezone]

        yield template


@pytest.fixture
def houses(
    postgres: EmbeddedPostgres, templates: Callable[[str], str], tmp_path: Path
) -> Iterator[Callable[..., Pair]]:
    """Makes a house with an archive, and its twin that never drops anything."""
    with connect(postgres.admin_url, application_name="hl-test") as conn, ExitStack() as stack:

        def copy(template: str) -> str:
            name = f"test_{uuid.uuid4().hex[:12]}"
            conn.execute(
                sql.SQL("create database {} template {} owner {}").format(
                    *map(sql.Identifier, (name, template, OWNER))
                )
            )
            stack.callback(
                conn.execute, sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )
            return name

        def make(timezone: str = "UTC", hours: str | None = None) -> Pair:
            one, two = copy(templates(timezone)), copy(templates(timezone))
            house = House(postgres.url_of(OWNER, one), tmp_path / one, hours=hours)
            oracle = Keeper(postgres.url_of(OWNER, two))
            stack.callback(house.close)
            stack.callback(oracle.close)
            return house, oracle

        yield make
