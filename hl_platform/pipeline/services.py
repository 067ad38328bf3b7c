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
    """

    name: str
    stage: str
    streams: tuple[Stream, ...]


def plan_bridge_names(settings: Settings) -> list[str]:
    """The names of the bridges that should be running."""
    n = settings.bridge.instances
    return ["bridge"] if n == 1 else [f"bridge-{number}" for number in range(1, n + 1)]


def plan_services(settings: Settings, streams: Mapping[str, Stream]) -> list[Service]:
    """The bridges and sinks that should be running."""
    every = tuple(streams.values())
    bridges = [Service(name, "bridge", every) for name in plan_bridge_names(settings)]
    if settings.sink.layout == "together":
        return [*bridges, Service("sink", "sink", every)]
    return [*bridges, *(Service(f"sink-{stream.name}", "sink", (stream,)) for stream in every)]


def find_service(settings: Settings, streams: Mapping[str, Stream], name: str) -> Service:
    """The planned service of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    planned = {service.name: service for service in plan_services(settings, streams)}
    if name not in planned:
        raise ConfigError(f"There is no service {name!r}. The services are {', '.join(planned)}.")
    return planned[name]
