"""Which processes the stack consists of."""

import sys
from collections.abc import Mapping
from typing import NamedTuple

from hl_platform.core.settings import Settings
from hl_platform.pipeline.services import plan_services
from hl_platform.stack.addresses import plan_embedded, with_simulator
from hl_platform.stack.dagster_instance import (
    code_server_command,
    daemon_command,
    dagster_environment,
    webserver_command,
    write_dagster_home,
)
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import LOOPBACK, free_port
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.programs import Program, answers_http, listens
from hl_platform.stack.server import Server
from hl_platform.streams import load_streams

CODE_SERVER, WEBSERVER, DAEMON = "dagster-code", "dagster-web", "dagster-daemon"
LIVE, SIMULATOR = "live", "simulator"


class StackPlan(NamedTuple):
    """The processes, in the order of their start.

    Args:
        servers: PostgreSQL, Kafka, Mosquitto, as far as they are ours.
        code_server: of Dagster; it may start with the servers.
        live: what needs the servers, their tables and Kafka topics.
        dagster: what needs those and the code server.
        simulator: what needs everything; None when it is not wanted.
        services: names of the services that Dagster will run.
    """

    servers: list[Server]
    code_server: Server
    live: Server
    dagster: list[Server]
    simulator: Server | None
    services: list[str]


def plan_stack(
    given: Settings, resolved: Settings, layout: Layout, environment: Mapping[str, str], lock: int
) -> StackPlan:
    """The processes of the stack; writes Dagster's configuration.

    Args:
        given: the settings as the user gave them.
        resolved: with all addresses.
        layout: the directories, made.
        environment: for children.
        lock: file descriptor of the data directory's lock, for children to hold.
    """
    services = plan_services(resolved, load_streams(resolved.streams_dir))
    python, keep, home = sys.executable, (lock,), layout.dagster_home
    code_port = free_port()
    write_dagster_home(home, LOOPBACK, code_port, len(services))
    # A log file is not a terminal, and a line must be there when it is looked for.
    plain = {**environment, "PYTHONUNBUFFERED": "1"}
    dagster = {**plain, **dagster_environment(home, resolved.dagster.database_url or "")}
    live = resolved.live
    code_server = Program(
        CODE_SERVER,
        layout,
        code_server_command(python, LOOPBACK, code_port),
        dagster,
        ready=listens(code_port),
        keep_fds=keep,
        stop_timeout_s=1.0,
    )
    live_server = Program(
        LIVE,
        layout,
        [python, "-m", "hl_live"],
        plain,
        ready=answers_http(live.port, "/health", _reach(live.host)),
        keep_fds=keep,
    )
    webserver = Program(
        WEBSERVER,
        layout,
        webserver_command(python, home, LOOPBACK, resolved.dagster.port),
        dagster,
        ready=answers_http(resolved.dagster.port, "/server_info"),
        keep_fds=keep,
        stop_timeout_s=1.5,
    )
    daemon = Program(DAEMON, layout, daemon_command(python, home), dagster, keep_fds=keep, stop_timeout_s=1.5)
    simulator = Program(SIMULATOR, layout, [python, "-m", "hl_platform.simulator"], plain, keep_fds=keep)
    return StackPlan(
        _plan_servers(given, layout, keep),
        code_server,
        live_server,
        [webserver, daemon],
        simulator if with_simulator(given) else None,
        [service.name for service in services],
    )


def _plan_servers(given: Settings, layout: Layout, keep: tuple[int, ...]) -> list[Server]:
    embedded = plan_embedded(given)
    servers: list[Server] = []
    if embedded.database:
        servers.append(EmbeddedPostgres(layout, given.database.port, keep_fds=keep))
    if embedded.kafka:
        servers.append(EmbeddedKafka(layout, given.kafka.port, keep_fds=keep))
    if embedded.mqtt:
        servers.append(EmbeddedMosquitto(layout, given.mqtt, keep_fds=keep))
    return servers


def _reach(host: str) -> str:
    # "Every address" is one to listen on, not one to connect to.
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104
