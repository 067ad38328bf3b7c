"""Dagster's daemon uses its connections again, and notices one that is broken before it does."""

from collections.abc import Iterator

import dagster as dg
import pytest

from hl_platform.adapters.postgres.connection import connect
from hl_platform.dagster_daemon import keep_connections
from hl_platform.stack.dagster_instance import storage_url
from tests.home import eventually

# But for whoever looks: a backend lives on for a moment after its connection is closed.
BACKENDS = (
    "select pid from pg_stat_activity "
    "where datname = current_database() and backend_type = 'client backend' and application_name <> 'test'"
)


@pytest.fixture
def instance(database_url: str) -> Iterator[dg.DagsterInstance]:
    storage = {"postgres": {"postgres_url": storage_url(database_url)}}
    with dg.instance_for_test(overrides={"storage": storage}) as instance:
        keep_connections(instance)
        yield instance


def ask_everything(instance: dg.DagsterInstance) -> None:
    instance.get_runs(limit=1)
    instance.all_instigator_state()
    instance.fetch_materializations(dg.AssetKey("none"), limit=1)


def backends(database_url: str) -> list[int]:
    with connect(database_url, application_name="test") as conn:
        return [pid for (pid,) in conn.execute(BACKENDS)]


def only_backend(instance: dg.DagsterInstance, database_url: str) -> int:
    """The backend of all storages, once those that made their tables are gone."""
    ask_everything(instance)
    [pid] = eventually(lambda: backends(database_url), lambda pids: len(pids) == 1)
    return pid


def test_all_storages_share_a_connection_that_stays(instance: dg.DagsterInstance, database_url: str) -> None:
    pid = only_backend(instance, database_url)
    ask_everything(instance)
    assert backends(database_url) == [pid]


def test_a_broken_connection_is_replaced_before_it_is_used(
    instance: dg.DagsterInstance, database_url: str
) -> None:
    pid = only_backend(instance, database_url)
    with connect(database_url, application_name="test") as conn:
        conn.execute("select pg_terminate_backend(%s, 10000)", (pid,))
    ask_everything(instance)
    assert backends(database_url) != [pid]
