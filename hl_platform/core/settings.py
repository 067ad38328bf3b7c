"""Every setting of hl, read once from `HL_…` environment variables into one frozen object.

`HL_KAFKA__BOOTSTRAP_SERVERS` is `settings.kafka.bootstrap_servers`: sections and keys are joined by two
underscores. A variable that no setting answers to is an error, so that a typing mistake cannot go unseen.
The descriptions here are the ones in docs/configuration.md.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from hl_platform.core.environment import SettingDoc, parse_value, walk_settings
from hl_platform.core.errors import ConfigError

PREFIX = "HL_"

Port = Annotated[int, Meta(ge=1, le=65535)]
PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]


# Keys that came over an open line could be anybody's.
ISSUER = re.compile(r"(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]).+")
ISSUER_ALLOWED = "an https:// address, or http:// on loopback"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the sections: frozen, and closed to unknown keys."""


class MqttSettings(Section, frozen=True):
    """The MQTT broker, and the bridge's session on it."""

    host: Annotated[str | None, Meta(description="Broker to use. Unset: hl starts its own Mosquitto.")] = None
    port: Annotated[Port, Meta(description="Port of the broker, or of hl's own.")] = 1883
    username: Annotated[str | None, Meta(description="User name for the broker.")] = None
    password: Annotated[str | None, Meta(description="Password for the broker.")] = None
    tls: Annotated[bool, Meta(description="Connect with TLS.")] = False
    tls_ca_file: Annotated[
        str | None, Meta(description="PEM file of the certificate authority. Unset: the system's.")
    ] = None
    tls_cert_file: Annotated[str | None, Meta(description="PEM file of the client certificate.")] = None
    tls_key_file: Annotated[str | None, Meta(description="PEM file of the client certificate's key.")] = None
    client_id_prefix: Annotated[
        str, Meta(description="MQTT client ids are this, a dash and the service's name.", min_length=1)
    ] = "hl"
    session_expiry_s: Annotated[
        int,
        Meta(
            ge=1,
            le=2**32 - 1,
            description="Seconds for which the broker keeps the bridge's session while it is away.",
        ),
    ] = 7 * 86_400
    receive_maximum: Annotated[
        int,
        Meta(ge=1, le=65535, description="Unacknowledged messages the broker may send ahead."),
    ] = 10_000
    max_queued_bytes: Annotated[
        PositiveInt,
        Meta(
            description=(
                "Memory that hl's own Mosquitto may fill with messages for an absent bridge. "
                "With a broker of your own: its bound, for the alarm at 80 %."
            )
        ),
    ] = 512 * 1024 * 1024


class KafkaSettings(Section, frozen=True):
    """The Kafka or Redpanda cluster."""

    bootstrap_servers: Annotated[
        str | None, Meta(description="Cluster to use. Unset: hl starts its own single broker.")
    ] = None
    port: Annotated[Port, Meta(description="Port of hl's own broker.")] = 9092
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="How clients talk to the cluster."),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None,
        Meta(description="SASL mechanism, with a SASL_… protocol."),
    ] = None
    sasl_username: Annotated[str | None, Meta(description="SASL user name.")] = None
    sasl_password: Annotated[str | None, Meta(description="SASL password.")] = None
    ssl_ca_location: Annotated[
        str | None, Meta(description="PEM file of the certificate authority. Unset: the system's.")
    ] = None
    ssl_certificate_location: Annotated[
        str | None, Meta(description="PEM file of the client certificate.")
    ] = None
    ssl_key_location: Annotated[str | None, Meta(description="PEM file of the client certificate's key.")] = (
        None
    )
    retention_days: Annotated[
        PositiveInt, Meta(description="Days for which topics of readings are kept.")
    ] = 7
    dead_letter_retention_days: Annotated[
        PositiveInt, Meta(description="Days for which dead-letter topics are kept.")
    ] = 365


class DatabaseSettings(Section, frozen=True):
    """PostgreSQL or TimescaleDB, 15 or newer."""

    url: Annotated[
        str | None,
        Meta(description="postgresql:// URL of the owner of hl's tables. Unset: hl starts its own."),
    ] = None
    read_url: Annotated[
        str | None,
        Meta(description="postgresql:// URL of the read-only role that queries run as. Unset: `url`."),
    ] = None
    port: Annotated[Port, Meta(description="Port of hl's own PostgreSQL.")] = 5432


class ReadingSettings(Section, frozen=True):
    """Which readings are believed."""

    max_ahead_s: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Seconds a device's clock may be ahead before its reading is invalid.",
        ),
    ] = 300.0
    floor: Annotated[
        datetime,
        Meta(
            tz=True,
            description="Readings older than this come from a clock that was never set: invalid.",
        ),
    ] = datetime(2015, 1, 1, tzinfo=UTC)
    max_payload_bytes: Annotated[PositiveInt, Meta(description="Largest payload accepted from a device.")] = (
        65_536
    )


class BridgeSettings(Section, frozen=True):
    """MQTT to Kafka."""

    instances: Annotated[
        PositiveInt,
        Meta(description="Bridges that share the load through one shared subscription."),
    ] = 1
    spool_after_s: Annotated[
        PositiveFloat,
        Meta(
            description="Seconds that a reading waits for Kafka before the bridge turns to its spool on disk."
        ),
    ] = 10.0
    spool_max_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="Largest spool; beyond it MQTT's own queue keeps what comes.")
    ] = 2 * 1024**3
    spool_dir: Annotated[
        str | None,
        Meta(
            description=(
                "Directory of the spools, one folder for each bridge, on a disk that outlives the process. "
                "Unset: `spool` in HL_DATA_DIR."
            )
        ),
    ] = None


class SinkSettings(Section, frozen=True):
    """Kafka to PostgreSQL."""

    layout: Annotated[
        Literal["together", "per_stream"],
        Meta(description="One process for all streams, or one for each."),
    ] = "together"
    max_batch_rows: Annotated[PositiveInt, Meta(description="Largest batch, in readings.")] = 10_000
    max_batch_age_ms: Annotated[
        int, Meta(ge=0, le=100, description="How long a reading may wait for company, in ms.")
    ] = 20
    raw_retention_days: Annotated[
        PositiveInt,
        Meta(description="Days for which readings stay in their table; older ones are archived."),
    ] = 90
    breaker_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description=(
                "Share of a stream's records within a minute; when more are rejected, the stream is paused "
                "but for probes. 1 switches this off."
            ),
        ),
    ] = 0.5


class ArchiveSettings(Section, frozen=True):
    """Where readings go that are older than the raw retention."""

    enabled: Annotated[
        bool,
        Meta(
            description=(
                "Archive readings older than HL_SINK__RAW_RETENTION_DAYS and drop them from their table. "
                "Without it nothing is ever dropped."
            )
        ),
    ] = True
    dir: Annotated[
        str | None,
        Meta(
            description=(
                "Directory of the archive, on a disk that is backed up: what is in it is nowhere else. "
                "Unset: `archive` in HL_DATA_DIR."
            )
        ),
    ] = None


class ServiceSettings(Section, frozen=True):
    """How Dagster keeps the bridge and the sink alive."""

    max_age_s: Annotated[
        PositiveFloat,
        Meta(description="Age at which a run hands over to a fresh one, in seconds."),
    ] = 7 * 86_400.0
    heartbeat_s: Annotated[PositiveFloat, Meta(description="Seconds between two heartbeats.")] = 0.5
    stale_after_s: Annotated[
        PositiveFloat, Meta(description="Age of a heartbeat at which its service counts as dead.")
    ] = 3.0
    watch_s: Annotated[
        float,
        Meta(ge=0, le=30, description="Seconds that a sensor which must be quick watches within each tick."),
    ] = 28.8


class DagsterSettings(Section, frozen=True):
    """Dagster's processes and its storage."""

    port: Annotated[Port, Meta(description="Port of Dagster's page.")] = 3000
    database_url: Annotated[
        str | None,
        Meta(description="postgresql:// URL of Dagster's storage. Unset: a database beside hl's own."),
    ] = None
    run_retention_days: Annotated[
        PositiveInt, Meta(description="Days for which finished service runs are kept.")
    ] = 14


class LiveSettings(Section, frozen=True):
    """The live service: REST, WebSocket and the page."""

    host: Annotated[
        str, Meta(description="Address to listen on. Any but loopback needs tokens: see docs/security.md.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of the page and the API.")] = 8000
    instance: Annotated[str, Meta(description="Name of this instance when there are several.")] = ""
    client_queue_messages: Annotated[
        PositiveInt,
        Meta(
            description="Readings of a stream that may wait for one slow client; beyond that it gets the latest of "
            "each device and is told how many it missed."
        ),
    ] = 1_000
    max_clients: Annotated[PositiveInt, Meta(description="Clients of the feed at a time.")] = 2_000
    write_timeout_s: Annotated[
        PositiveFloat,
        Meta(
            description="A client that reads nothing for so long, while something waits for it, is disconnected."
        ),
    ] = 30.0
    ring_messages: Annotated[
        PositiveInt,
        Meta(description="Readings of each Kafka partition kept in memory for clients that come back."),
    ] = 10_000
    ring_bytes: Annotated[
        PositiveInt, Meta(description="Memory that they may take for each partition, about.")
    ] = 8 * 2**20
    max_resume_messages: Annotated[
        PositiveInt,
        Meta(
            description="Records of a Kafka partition that are read again for a client that comes back; what is "
            "further away is a gap."
        ),
    ] = 100_000
    token: Annotated[
        str | None,
        Meta(
            description="What `hl check`, `hl tail feed` and the measurements show a service that asks for a token."
        ),
    ] = None
    access_log: Annotated[
        Literal["off", "notable", "all"],
        Meta(
            description="Which requests have a line in the log: `notable` are failures, those that take a second or "
            "longer, and clients of the feed that missed readings, at most 60 a minute."
        ),
    ] = "notable"
    max_clients_per_address: Annotated[
        PositiveInt,
        Meta(description="Feed connections of one address at a time, where clients need a token."),
    ] = 100
    max_requests_per_minute: Annotated[
        PositiveInt,
        Meta(
            description="Requests of one token in a minute, or of one address where nobody is asked for a token; "
            "beyond that the answer is a 429."
        ),
    ] = 60_000
    allowed_hosts: Annotated[
        str,
        Meta(
            description=(
                "Names under which others reach the service, such as a proxy's, with commas between. "
                "With one of them clients need a token."
            )
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Meta(
            description=(
                "Origins of other pages that may use the API (CORS) and the feed, with commas between, "
                "such as https://dash.example."
            )
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Meta(
            description=(
                "Addresses of proxies whose X-Forwarded-For is believed, with commas between, or networks, such as "
                "127.0.0.1 for one on this machine. Unset: nobody's. With one of them clients need a token."
            )
        ),
    ] = ""


class AuthSettings(Section, frozen=True):
    """Who may read through the live service."""

    required: Annotated[
        bool, Meta(description="Ask for a token on loopback as well, as behind a proxy on the same machine.")
    ] = False
    issuer: Annotated[
        str | None,
        Meta(
            description="OpenID Connect issuer whose JWTs are taken, exactly as in `iss`. Unset: none.",
            # Not checked by its type but by `_check_together`.
            extra={"allowed": ISSUER_ALLOWED},
        ),
    ] = None
    audience: Annotated[str | None, Meta(description="What must be in `aud` of those JWTs.")] = None


class SimulatorSettings(Section, frozen=True):
    """The simulated home."""

    enabled: Annotated[
        bool | None,
        Meta(description="Run it with the stack. Unset: only when hl starts its own Mosquitto."),
    ] = None
    seed: Annotated[int, Meta(description="Same seed, same home.")] = 1


class LogSettings(Section, frozen=True):
    """Logging."""

    dir: Annotated[
        str | None,
        Meta(
            description="Where bridge and sink keep a log file each. Unset: none; `hl up` uses its own directory."
        ),
    ] = None
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Lowest level shown.")
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="`auto` is colours on a terminal and JSON elsewhere."),
    ] = "auto"


class TracingSettings(Section, frozen=True):
    """Traces of single readings and requests, for OpenTelemetry."""

    endpoint: Annotated[
        str | None,
        Meta(
            description="Address of an OTLP collector, by HTTP, such as http://127.0.0.1:4318; needs "
            "`pip install 'hl-platform[otel]'`. Unset: no traces."
        ),
    ] = None


class Settings(Section, frozen=True):
    """All settings. Build with `load_settings`, once per process, and hand it down."""

    data_dir: Annotated[
        str | None,
        Meta(
            description=(
                "Where the embedded servers keep their data. "
                "Unset: /var/lib/hl for root, else ~/.local/share/hl."
            )
        ),
    ] = None
    runtime_dir: Annotated[
        str | None,
        Meta(
            description=(
                "Where unpacked servers are cached. Unset: /var/cache/hl for root, else ~/.cache/hl."
            )
        ),
    ] = None
    streams_dir: Annotated[
        str | None, Meta(description="Directory with stream declarations of your own.")
    ] = None
    models_dir: Annotated[
        str | None, Meta(description="Directory with SQL models of your own, on top of the built-in ones.")
    ] = None
    timezone: Annotated[
        str,
        Meta(
            description="The household's time zone: what a local day is.",
            # Not checked by its type but by `_check_together`.
            extra={"allowed": "a name of the time zone database, such as Europe/Berlin"},
        ),
    ] = "UTC"
    mqtt: MqttSettings = msgspec.field(default_factory=MqttSettings)
    kafka: KafkaSettings = msgspec.field(default_factory=KafkaSettings)
    database: DatabaseSettings = msgspec.field(default_factory=DatabaseSettings)
    reading: ReadingSettings = msgspec.field(default_factory=ReadingSettings)
    bridge: BridgeSettings = msgspec.field(default_factory=BridgeSettings)
    sink: SinkSettings = msgspec.field(default_factory=SinkSettings)
    archive: ArchiveSettings = msgspec.field(default_factory=ArchiveSettings)
    service: ServiceSettings = msgspec.field(default_factory=ServiceSettings)
    dagster: DagsterSettings = msgspec.field(default_factory=DagsterSettings)
    live: LiveSettings = msgspec.field(default_factory=LiveSettings)
    auth: AuthSettings = msgspec.field(default_factory=AuthSettings)
    simulator: SimulatorSettings = msgspec.field(default_factory=SimulatorSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    tracing: TracingSettings = msgspec.field(default_factory=TracingSettings)


def load_settings(env: Mapping[str, str]) -> Settings:
    """The settings that the environment describes.

    Args:
        env: environment variables; those without the prefix `HL_` are ignored. An empty one counts as unset,
            which is how compose files and unit files leave something out.

    Raises:
        ConfigError: a variable is unknown or its value is not allowed; the message names it, its value and
            what is allowed.
    """
    known = {doc.variable: doc for doc in describe_settings()}
    nested: dict[str, Any] = {}
    for name in sorted(name for name in env if name.startswith(PREFIX)):
        if name not in known:
            raise ConfigError(f"{name} is not a setting of hl. {_did_you_mean(name, known)}")
        if env[name] == "":
            continue
        section = nested
        *parents, leaf = known[name].path
        for parent in parents:
            section = section.setdefault(parent, {})
        section[leaf] = parse_value(known[name], env[name])
    settings = msgspec.convert(nested, Settings)
    _check_together(settings)
    return settings


@functools.cache
def describe_settings() -> tuple[SettingDoc, ...]:
    """Every setting with its variable, default, description and allowed values, in order of declaration."""
    return tuple(walk_settings(Settings, PREFIX))


def require_address(address: str | None, *path: str) -> str:
    """The address of a server that `hl up`, or the user, must have set by now.

    Args:
        address: the setting's value.
        path: of the setting, for the message.

    Raises:
        ConfigError: it is not set.
    """
    if address is None:
        raise ConfigError(f"{environment_name(*path)} is not set, and no running hl was found. Run `hl up`.")
    return address


def environment_name(*path: str) -> str:
    """The environment variable of a setting: `("kafka", "port")` is `HL_KAFKA__PORT`."""
    return PREFIX + "__".join(path).upper()


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {close[0]}?" if close else "docs/configuration.md lists them all."


def _check_together(settings: Settings) -> None:
    _check_timezone(settings.timezone)
    service, kafka, mqtt = settings.service, settings.kafka, settings.mqtt
    if service.stale_after_s < 2 * service.heartbeat_s:
        raise ConfigError(
            f"HL_SERVICE__STALE_AFTER_S={service.stale_after_s:g} is not allowed; allowed: at least twice "
            f"HL_SERVICE__HEARTBEAT_S, which is {service.heartbeat_s:g}: a late heartbeat is not a death."
        )
    if kafka.security_protocol.startswith("SASL_") and kafka.sasl_mechanism is None:
        raise ConfigError(
            f"HL_KAFKA__SASL_MECHANISM is unset, and HL_KAFKA__SECURITY_PROTOCOL={kafka.security_protocol!r} "
            "needs it; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512."
        )
    if settings.auth.issuer is not None and not ISSUER.match(settings.auth.issuer):
        raise ConfigError(
            f"HL_AUTH__ISSUER={settings.auth.issuer!r} is not allowed; allowed: {ISSUER_ALLOWED}."
        )
    if (settings.auth.issuer is None) != (settings.auth.audience is None):
        raise ConfigError(
            f"HL_AUTH__ISSUER={settings.auth.issuer!r} and HL_AUTH__AUDIENCE={settings.auth.audience!r} "
            "belong together; allowed: both or neither."
        )
    if (mqtt.tls_cert_file is None) != (mqtt.tls_key_file is None):
        raise ConfigError(
            f"HL_MQTT__TLS_CERT_FILE={mqtt.tls_cert_file!r} and HL_MQTT__TLS_KEY_FILE={mqtt.tls_key_file!r} "
            "belong together; allowed: both or neither."
        )


def _check_timezone(name: str) -> None:
    try:
        ZoneInfo(name)
    # A name such as "Europe" is a directory, and one such as "../x" a ValueError.
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ConfigError(
            f"HL_TIMEZONE={name!r} is not allowed; allowed: a name of the time zone database, such as "
            "Europe/Berlin."
        ) from exc
