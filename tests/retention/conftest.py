"""Two databases for each test: one that drops, and one that keeps everything."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psycopg
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
def pairs(
    postgres: EmbeddedPostgres, templates: Callable[[str], str], tmp_path: Path
) -> Callable[..., AbstractContextManager[Pair]]:
    """Makes a house with an archive and its twin that never drops anything, for as long as a block lasts."""

    @contextmanager
    def make(timezone: str = "UTC", hours: str | None = None) -> Iterator[Pair]:
        with connect(postgres.admin_url, application_name="hl-test") as conn, ExitStack() as stack:
            one, two = (stack.enter_context(_copied(conn, templates(timezone))) for _ in range(2))
            house = House(postgres.url_of(OWNER, one), tmp_path / one, hours=hours)
            stack.callback(house.close)
            oracle = Keeper(postgres.url_of(OWNER, two))
            stack.callback(oracle.close)
            yield house, oracle

    return make


@pytest.fixture
def houses(pairs: Callable[..., AbstractContextManager[Pair]]) -> Iterator[Callable[..., Pair]]:
    """The same for as long as the test lasts."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(pairs(*args, **kwargs))


@contextmanager
def _copied(conn: psycopg.Connection, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    names = map(sql.Identifier, (name, template, OWNER))
    conn.execute(sql.SQL("create database {} template {} owner {}").format(*names))
    try:
        yield name
    finally:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
