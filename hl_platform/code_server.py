"""Dagster's code server, whose runs begin in a process that has imported everything already.

Dagster gives each run a process of its own and spawns it: a new interpreter, which imports Dagster and our
definitions. That is two seconds of a core, and up to ten while two cores carry 2,000 readings/s, in which a killed
service is missing. Here the process is forked from one that has done these imports and nothing else.

Source: Python's documentation of multiprocessing, start method "forkserver". Its process has a single thread and no
connections, which is what makes forking it safe.
"""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

# What a run imports until it works. Of Dagster's own modules it is those that only a run's process needs: one that
# is not there in another version is imported later, or not at all.
PRELOADED = (
    "hl_platform.definitions",
    "dagster_postgres",
    "psycopg2.extras",
    "dagster._grpc.impl",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.workspace.autodiscovery",
)

_get_context = multiprocessing.get_context


def main() -> None:
    """Runs Dagster's command line, of which `api grpc` is the code server."""
    # Not above: every run's process imports this module once more.
    from dagster._cli import main as run_dagster  # noqa: PLC0415

    multiprocessing.set_forkserver_preload(list(PRELOADED))
    # Now, not with the first run: it imports while Dagster does, and is ready when that is.
    forkserver.ensure_running()
    # Dagster asks for "spawn", and has no setting for it.
    multiprocessing.get_context = _forking_context  # type: ignore[assignment]
    run_dagster()  # type: ignore[no-untyped-call]


def _forking_context(method: str | None = None) -> BaseContext:
    return _get_context("forkserver" if method == "spawn" else method)


if __name__ == "__main__":
    main()
