"""Which long-running services there are, from the settings."""

from collections.abc import Mapping
from typing import NamedTuple

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings
from hl_platform.core.streams import Stream


class Service(NamedTuple):
    """One long-running service: one lease, one Dagster job, one sensor.

    Args:
        name: of the lease, such as `bridge`, `bridge-2` or `sink-energy`.
        stage: `bridge` or `sink`.
        streams: what it serves.
        keeps_index: of the dead letters of its streams; of several sinks one does.
    """

    name: str
    stage: str
    streams: tuple[Stream, ...]
    keeps_index: bool = True


def plan_bridge_names(settings: Settings) -> list[str]:
    """The names of the bridges that should be running."""
    return _numbered("bridge", settings.bridge.instances)


def plan_services(settings: Settings, streams: Mapping[str, Stream]) -> list[Service]:
    """The bridges and sinks that should be running."""
    every = tuple(streams.values())
    bridges = [Service(name, "bridge", every) for name in plan_bridge_names(settings)]
    served = {"sink": every}
    if settings.sink.layout == "per_stream":
        served = {f"sink-{stream.name}": (stream,) for stream in every}
    sinks = [
        Service(name, "sink", of, keeps_index=number == 0)
        for kind, of in served.items()
        for number, name in enumerate(_numbered(kind, settings.sink.instances))
    ]
    return [*bridges, *sinks]


def _numbered(kind: str, n: int) -> list[str]:
    return [kind] if n == 1 else [f"{kind}-{number}" for number in range(1, n + 1)]


def find_service(settings: Settings, streams: Mapping[str, Stream], name: str) -> Service:
    """The planned service of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    planned = {service.name: service for service in plan_services(settings, streams)}
    if name not in planned:
        raise ConfigError(f"There is no service {name!r}. The services are {', '.join(planned)}.")
    return planned[name]
