"""What would keep the stack from running, found before anything has started."""

from collections.abc import Callable, Sequence

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings
from hl_platform.stack.addresses import PortUse, plan_embedded, plan_ports
from hl_platform.stack.install import ensure_java, ensure_mosquitto
from hl_platform.stack.layout import Layout, make_directories
from hl_platform.stack.lock import DataDirLock
from hl_platform.stack.net import is_taken, who_listens
from hl_platform.streams import load_streams


def check_all(settings: Settings, layout: Layout, report: Callable[[str], None]) -> None:
    """Checks everything that can be known beforehand, the cheapest first.

    Args:
        settings: as given.
        layout: where the data will be.
        report: told what takes long.

    Raises:
        ConfigError: one clear sentence, with the remedy.
    """
    load_streams(settings.streams_dir)
    make_directories(layout)
    check_not_running(layout)
    embedded = plan_embedded(settings)
    if embedded.kafka:
        ensure_java(layout)
    if embedded.mqtt:
        ensure_mosquitto(report)
    check_ports(plan_ports(settings))


def check_not_running(layout: Layout) -> None:
    """Raises ConfigError if another hl holds the data directory; waits for what a killed one left behind.

    Their ports would be taken still.
    """
    lock = DataDirLock(layout.data_dir)
    lock.acquire()
    lock.release()


def check_ports(ports: Sequence[PortUse]) -> None:
    """Raises ConfigError if a port is taken, or wanted twice."""
    wanted: dict[int, PortUse] = {}
    for use in ports:
        other = wanted.setdefault(use.port, use)
        if other is not use:
            raise ConfigError(
                f"Port {use.port} is set for {other.purpose} ({other.variable}) and for {use.purpose} "
                f"({use.variable}). Give each its own."
            )
    for use in ports:
        if is_taken(use.port, use.host):
            who = who_listens(use.port)
            by = f" by {who}" if who else ""
            remedy = f"Stop that, or set {use.variable} to a free port"
            remedy += f", or {use.instead} to use a server of your own." if use.instead else "."
            raise ConfigError(f"Port {use.port} for {use.purpose} is taken{by}. {remedy}")
