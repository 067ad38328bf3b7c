"""An own Mosquitto on loopback, with a queue that outlives it."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import MqttSettings
from hl_platform.stack.layout import Layout
from hl_platform.stack.net import LOOPBACK, answers_tcp
from hl_platform.stack.process import Command
from hl_platform.stack.server import Server, plain_environment, silent
from hl_platform.stack.users import give_to

HOW_TO_GET = (
    "Mosquitto is missing. Run `apt-get install mosquitto`, or set HL_MQTT__HOST to a broker of your own."
)
# Above the largest payload that hl believes, so that a payload just too large reaches the dead letters.
MAX_PACKET_BYTES = 1024 * 1024
# A save rewrites the whole file: the larger it is, the rarer.
SAVE_EVERY_S = 1.0
SAVED_BYTES_PER_S = 8 * 1024 * 1024

CONFIGURATION = """\
# Written by hl at every start.
listener {port} {host}
allow_anonymous true

# What it acknowledged must outlive it: saved on SIGUSR1, every second from hl, and at its end. Saving by the number
# of changes as well would rewrite a long queue many times a second, and slow devices down to hundreds of readings.
persistence true
persistence_location {directory}/
persistence_file mosquitto.db
autosave_interval 60

# An absent bridge's queue is bounded by its size; the default bound of 1,000 messages drops silently.
max_queued_messages 0
max_queued_bytes {max_queued_bytes}
max_inflight_messages {max_inflight_messages}
max_packet_size {max_packet_bytes}
set_tcp_nodelay true

sys_interval 10
log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%SZ
connection_messages true
"""


class EmbeddedMosquitto(Server):
    """Mosquitto for everyone on this machine, and nobody else.

    Args:
        layout: where its data is.
        mqtt: port, bounds.
        keep_fds: file descriptors it inherits.
        report: told what takes long.

    Guarantee: after a kill -9 its sessions and queues are those of its last save, at most a second ago; longer ago
    when the queue is so large that writing it every second would be too much (8 MiB a second).
    """

    def __init__(
        self,
        layout: Layout,
        mqtt: MqttSettings,
        *,
        keep_fds: Sequence[int] = (),
        report: Callable[[str], None] = silent,
    ) -> None:
        super().__init__("mosquitto", layout.logs, keep_fds=keep_fds, report=report)
        self._layout = layout
        self._mqtt = mqtt
        self._saved_at = 0.0

    @property
    def host(self) -> str:
        """Where it listens."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._mqtt.port

    @property
    def _directory(self) -> Path:
        return self._layout.data_dir / "mosquitto"

    def prepare(self) -> None:
        """Writes the configuration.

        Raises:
            ConfigError: Mosquitto is not installed.
        """
        find_mosquitto()
        directory = self._layout.server_dir("mosquitto")
        configuration = directory / "mosquitto.conf"
        configuration.write_text(
            CONFIGURATION.format(
                host=LOOPBACK,
                port=self._mqtt.port,
                directory=directory,
                max_queued_bytes=self._mqtt.max_queued_bytes,
                max_inflight_messages=self._mqtt.receive_maximum,
                max_packet_bytes=MAX_PACKET_BYTES,
            ),
            encoding="utf-8",
        )
        give_to(configuration, self._layout.user)

    def command(self) -> Command:
        """The broker in the foreground."""
        return Command(
            [find_mosquitto(), "-c", str(self._directory / "mosquitto.conf")],
            plain_environment(self._directory),
            self._directory,
            self._layout.user,
        )

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return answers_tcp(self._mqtt.port)

    def save(self) -> None:
        """Makes it write its sessions and queues to disk now."""
        if self.child is not None:
            self.child.send(signal.SIGUSR1)
            self._saved_at = time.monotonic()

    def save_when_due(self) -> None:
        """Saves if the last time is a second ago, or longer where there is much to write. Call it often."""
        stored = self._directory / "mosquitto.db"
        n_bytes = stored.stat().st_size if stored.exists() else 0
        if time.monotonic() - self._saved_at >= max(SAVE_EVERY_S, n_bytes / SAVED_BYTES_PER_S):
            self.save()


def find_mosquitto() -> str:
    """The program.

    Raises:
        ConfigError: it is missing; says how to get it.
    """
    # It is in sbin, which is not on everyone's path.
    path = shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ConfigError(HOW_TO_GET)
    return path
