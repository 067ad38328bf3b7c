"""The running stack, as the measurements find it."""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg
from rich.console import Console

from hl_platform.adapters.feed_client import token_headers
from hl_platform.adapters.postgres.connection import connect
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, load_settings
from hl_platform.core.streams import Stream
from hl_platform.stack.connection import command_environment
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout, make_directories, plan_layout
from hl_platform.stack.net import free_port
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.server import Server
from hl_platform.streams import load_streams

S = TypeVar("S", bound=Server)

# Beside the interpreter that runs the measurement.
HL = Path(sys.executable).with_name("hl")


class RunningStack:
    """Addresses and declarations of what `hl up` runs here.

    Raises:
        ConfigError: nothing runs, and no address of a database is set.
    """

    def __init__(self) -> None:
        self.environment = command_environment()
        self.settings: Settings = load_settings(self.environment)
        if self.settings.database.url is None:
            raise ConfigError("No running hl was found. Run `hl up`, or set the HL_ addresses of a stack.")
        self.streams: dict[str, Stream] = load_streams(self.settings.streams_dir)

    @property
    def live_address(self) -> str:
        """Host and port of the live service."""
        return f"{self.settings.live.host}:{self.settings.live.port}"

    @property
    def live_headers(self) -> dict[str, str]:
        """What every request to it carries."""
        return token_headers(self.settings.live)

    def connect(self, *, read_only: bool = True) -> psycopg.Connection:
        """A connection as the reader, or as the owner."""
        owner = self.settings.database.url
        assert owner is not None
        url = (self.settings.database.read_url or owner) if read_only else owner
        return connect(url, application_name="hl-bench")


@contextmanager
def own_layout() -> Iterator[Layout]:
    """Directories for servers of the measurement's own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hl-bench-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        layout = plan_layout(load_settings({}))._replace(data_dir=Path(directory) / "data")
        make_directories(layout)
        yield layout


@contextmanager
def own_postgres() -> Iterator[str]:
    """The url of a PostgreSQL that is gone afterwards."""
    with own_layout() as layout, _running(EmbeddedPostgres(layout, free_port())) as server:
        yield server.url


@contextmanager
def own_kafka() -> Iterator[str]:
    """The bootstrap servers of a Kafka that is gone afterwards."""
    with own_layout() as layout, _running(EmbeddedKafka(layout, free_port())) as server:
        yield server.bootstrap_servers


@contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        server.wait_ready(60)
        yield server
    finally:
        server.stop()


def console() -> Console:
    """Where results go: as wide as the terminal, and wide enough for every table elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 140)


def percentiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum: values that were measured, nothing in between."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], ordered[-1]
