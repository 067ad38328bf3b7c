"""The sections of the settings that the pipeline and its servers have."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]


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
    instances: Annotated[
        PositiveInt,
        Meta(description="Sinks of each stream, which share its Kafka partitions; more than those are idle."),
    ] = 1
    max_batch_rows: Annotated[
        # librdkafka hands over no more at once.
        int,
        Meta(ge=1, le=1_000_000, description="Largest batch, in readings."),
    ] = 10_000
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
