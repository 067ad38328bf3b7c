"""Dagster's daemon, which keeps its connections to its storage.

Dagster's storage opens a connection for each query, seven a second while nothing happens, so that the many instances of
its other processes do not pile them up. The daemon has one instance for as long as it lives.
"""

from typing import Any

import dagster as dg
from dagster._daemon import cli
from dagster_postgres.utils import create_pg_engine

from hl_platform.adapters.postgres.connection import CONNECT_TIMEOUT_S, KEEPALIVE

# Those that are kept; more are made while more threads ask, and closed again.
N_KEPT = 2
N_MORE = 20

_begin = cli.daemon_controller_from_instance  # type: ignore[attr-defined]


def main() -> None:
    """Runs Dagster's command line, of which `run` is the daemon."""
    cli.daemon_controller_from_instance = _keeping_connections  # type: ignore[attr-defined]
    cli.main()


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Lets an instance whose storage is in PostgreSQL use its connections again."""
    storages: tuple[Any, ...] = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    engine = create_pg_engine(
        storages[0].postgres_url,
        isolation_level="AUTOCOMMIT",
        pool_size=N_KEPT,
        max_overflow=N_MORE,
        # One that is broken is replaced before it is used, and one whose server vanished does not hold us up.
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE},
    )
    for storage in storages:
        # As the webserver does by a method of its own, which does not look whether a connection is broken.
        storage._engine = engine  # noqa: SLF001


def _keeping_connections(instance: dg.DagsterInstance, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    keep_connections(instance)
    return _begin(instance, *arguments, **options)


if __name__ == "__main__":
    main()
