"""The servers and lines of a matrix: own ones, that may be killed, stopped, cut and slowed down, then mended."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psutil

from hl_platform.adapters.postgres.roles import OWNER
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.server import Server
from tests.home import eventually
from tests.proxy import Proxy, proxied
from tests.servers import new_mosquitto, new_postgres, running, temporary_layout


class Site(NamedTuple):
    """Servers, and the lines that the services reach them by.

    Args:
        mosquitto, kafka, postgres: reached directly by the test.
        lines: `mqtt-bridge`, `bridge-kafka`, `kafka-sink` and `sink-postgres`.
    """

    mosquitto: EmbeddedMosquitto
    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    lines: dict[str, Proxy]

    def server(self, name: str) -> Server:
        """By its name."""
        return next(server for server in (self.mosquitto, self.kafka, self.postgres) if server.name == name)

    def save_mosquitto(self) -> None:
        """Has it write what it holds to disk, which is what it has after a kill -9."""
        stored = self.mosquitto._directory / "mosquitto.db"
        before = stored.stat().st_mtime_ns if stored.exists() else 0
        self.mosquitto.save()
        eventually(lambda: stored.exists() and stored.stat().st_mtime_ns > before)

    def owner_url(self, database: str) -> str:
        """For the services and the test."""
        return self.postgres.url_of(OWNER, database)

    def mend(self) -> None:
        """Everything as it was before the cell, whatever happened in it."""
        for line in self.lines.values():
            line.heal()
        for server in (self.mosquitto, self.kafka, self.postgres):
            if server.pid is None:
                server.restart()
            top = psutil.Process(server.pid)
            resume([top, *top.children(recursive=True)])
            server.wait_ready()


@contextmanager
def open_site() -> Iterator[Site]:
    """A site, ready. Open and use it in one thread: the servers end with the thread that started them."""
    with ExitStack() as stack:
        layout = stack.enter_context(temporary_layout())
        mosquitto = stack.enter_context(running(new_mosquitto(layout)))
        postgres = stack.enter_context(running(new_postgres(layout)))
        behind = {name: free_port() for name in ("bridge-kafka", "kafka-sink")}
        targets = {"mqtt-bridge": mosquitto.port, "sink-postgres": postgres.port, **behind}
        lines = {name: stack.enter_context(proxied(port)) for name, port in targets.items()}
        forwarded = {port: lines[name].port for name, port in behind.items()}
        kafka = EmbeddedKafka(layout, free_port(), forwarded=forwarded)
        stack.enter_context(running(kafka))
        yield Site(mosquitto, kafka, postgres, lines)


def suspend(top: psutil.Process) -> list[psutil.Process]:
    """SIGSTOP of a process and its children; returns them once all stand still."""
    # The parent first: it has no further children then. PostgreSQL's backends are processes of their own.
    top.suspend()
    eventually(lambda: top.status() == psutil.STATUS_STOPPED)
    children = top.children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.suspend()
    eventually(lambda: all(map(_is_still, children)))
    return [top, *children]


def _is_still(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def resume(processes: list[psutil.Process]) -> None:
    """SIGCONT."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
