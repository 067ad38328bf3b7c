"""Brings the database and Kafka to what this version and the declared streams need."""

import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from hl_platform import __version__
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.roles import ensure_schema
from hl_platform.core.errors import TransientError
from hl_platform.core.settings import Settings
from hl_platform.stack.addresses import DAGSTER_SCHEMA, with_search_path
from hl_platform.streams import load_streams

log = structlog.get_logger()

RETRY_S = 0.5
# A server of the user's own may be starting at the same time.
GIVE_UP_S = 60.0


def prepare_data(settings: Settings, report: Callable[[str], None], stop: threading.Event) -> None:
    """Tables, rights, SQL models, Kafka topics; whatever is there already stays.

    Args:
        settings: with all addresses.
        report: told what it waits for.
        stop: set to give up.

    Raises:
        ConfigError: a server refuses us, or a declaration contradicts its table.
        TransientError: a server could not be reached for a minute.
    """
    streams = load_streams(settings.streams_dir)
    project = load_project(streams, settings.models_dir)
    url = settings.database.url or ""

    def tables() -> None:
        migrate(url, settings.database.read_url, streams.values())
        if settings.dagster.database_url == with_search_path(url, DAGSTER_SCHEMA):
            ensure_schema(url, DAGSTER_SCHEMA)

    def models() -> None:
        with closing(SqlDatabase(url, "hl-deploy", BULK)) as db:
            retired = deploy(db, project, settings.timezone, __version__).retired
        for one in retired:
            # Perhaps HL_MODELS_DIR was only forgotten.
            log.warning("model_retired", **one._asdict())

    report("making tables")
    _insist(tables, report, stop)
    report("making SQL models")
    _insist(models, report, stop)
    report("making Kafka topics")
    _insist(lambda: ensure_topics(settings.kafka, streams.values()), report, stop)


def _insist(step: Callable[[], None], report: Callable[[str], None], stop: threading.Event) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not stop.is_set():
        try:
            step()
        except TransientError as exc:
            if time.monotonic() > deadline:
                raise
            report(f"waiting: {exc}")
            stop.wait(RETRY_S)
        else:
            return
