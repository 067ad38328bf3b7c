"""Every setting of hl, read once from `HL_…` environment variables into one frozen object.

`HL_KAFKA__BOOTSTRAP_SERVERS` is `settings.kafka.bootstrap_servers`: sections and keys are joined by two
underscores. A variable that no setting answers to is an error, so that a typing mistake cannot go unseen.
The descriptions here are the ones in docs/configuration.md.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from hl_platform.core.environment import SettingDoc, parse_value, walk_settings
from hl_platform.core.errors import ConfigError
from hl_platform.core.live_sections import ISSUER, ISSUER_ALLOWED, AuthSettings, LiveSettings
from hl_platform.core.sections import (
    ArchiveSettings,
    BridgeSettings,
    DagsterSettings,
    DatabaseSettings,
    KafkaSettings,
    LogSettings,
    MqttSettings,
    ReadingSettings,
    Section,
    ServiceSettings,
    SimulatorSettings,
    SinkSettings,
    TracingSettings,
)

PREFIX = "HL_"


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
