"""Where everything will be reached, decided once before anything starts."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from hl_platform.core.settings import Settings, environment_name, load_settings
from hl_platform.stack.layout import Layout
from hl_platform.stack.net import LOOPBACK
from hl_platform.stack.postgres import EmbeddedPostgres

# Within a database of the user's own, Dagster's tables stay apart from hl's.
DAGSTER_SCHEMA = "dagster"


class Embedded(NamedTuple):
    """Which servers hl starts itself; the others are the user's."""

    mqtt: bool
    kafka: bool
    database: bool


class PortUse(NamedTuple):
    """A port that the stack will listen on.

    Args:
        port: its number.
        purpose: what for, for a person.
        variable: the setting that moves it.
        instead: the setting that makes it unnecessary, empty where there is none.
        host: the address to listen on.
    """

    port: int
    purpose: str
    variable: str
    instead: str = ""
    host: str = LOOPBACK


def plan_embedded(settings: Settings) -> Embedded:
    """Which servers no address is set for."""
    return Embedded(
        settings.mqtt.host is None,
        settings.kafka.bootstrap_servers is None,
        settings.database.url is None,
    )


def plan_ports(settings: Settings) -> list[PortUse]:
    """The ports that the stack will listen on."""
    embedded = plan_embedded(settings)
    live = settings.live
    ports = [
        PortUse(live.port, "the page and the API", environment_name("live", "port"), host=live.host),
        PortUse(settings.dagster.port, "Dagster", environment_name("dagster", "port")),
    ]
    if embedded.mqtt:
        variables = environment_name("mqtt", "port"), environment_name("mqtt", "host")
        ports.append(PortUse(settings.mqtt.port, "MQTT", *variables))
    if embedded.kafka:
        variables = environment_name("kafka", "port"), environment_name("kafka", "bootstrap_servers")
        ports.append(PortUse(settings.kafka.port, "Kafka", *variables))
    if embedded.database:
        variables = environment_name("database", "port"), environment_name("database", "url")
        ports.append(PortUse(settings.database.port, "PostgreSQL", *variables))
    return ports


def with_simulator(settings: Settings) -> bool:
    """Whether the simulated home runs: when told so, else only on an own Mosquitto, never on a real home's."""
    return plan_embedded(settings).mqtt if settings.simulator.enabled is None else settings.simulator.enabled


def resolve_environment(
    settings: Settings, layout: Layout, given: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings with every address filled in, and the environment that says the same to children.

    Args:
        settings: as given.
        layout: with its directories made.
        given: the environment of `hl up`.
    """
    postgres = EmbeddedPostgres(layout, settings.database.port)
    embedded = plan_embedded(settings)
    found = {
        ("data_dir",): str(layout.data_dir),
        ("runtime_dir",): str(layout.runtime_dir),
        ("log", "dir"): settings.log.dir or str(layout.logs),
        ("mqtt", "host"): settings.mqtt.host or LOOPBACK,
        ("kafka", "bootstrap_servers"): settings.kafka.bootstrap_servers
        or f"{LOOPBACK}:{settings.kafka.port}",
        ("database", "url"): settings.database.url or postgres.url,
    }
    if embedded.database:
        found["database", "read_url"] = settings.database.read_url or postgres.read_url
        found["dagster", "database_url"] = settings.dagster.database_url or postgres.dagster_url
    else:
        own = with_search_path(settings.database.url or "", DAGSTER_SCHEMA)
        found["dagster", "database_url"] = settings.dagster.database_url or own
    environment = {**given, **{environment_name(*path): value for path, value in found.items()}}
    return load_settings(environment), environment


def with_search_path(url: str, schema: str) -> str:
    """The url of a database, its tables looked for in a schema."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -c search_path={schema}".strip()
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
