"""Writes down which devices are there, as their status topics say."""

import random
import threading
from collections.abc import Iterable

import structlog

from hl_platform.adapters.mqtt.topic_watch import TopicWatch
from hl_platform.adapters.postgres.presence import Key, write_presence
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError
from hl_platform.core.presence import PresenceTopics, parse_status
from hl_platform.core.readings import DEVICE_ID
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# What waits for a database that is away: of each device the last it said.
MAX_WAITING = 10_000


class PresenceKeeper:
    """A worker beside the bridge that keeps the table of presence.

    Args:
        settings: with the addresses of broker and database.
        service: the bridge.
        streams: those with a `presence_filter` are watched.

    Guarantee: ends nobody, whatever is away. After a reconnection the broker tells all statuses anew, so that what
    was missed meanwhile is made up for. Several keepers of the same streams write the same.
    """

    def __init__(self, settings: Settings, service: str, streams: Iterable[Stream]) -> None:
        self._url = require_address(settings.database.url, "database", "url")
        self._filters = {one.name: one.presence_filter for one in streams if one.presence_filter is not None}
        self._topics = {name: PresenceTopics(one) for name, one in self._filters.items()}
        self._said: dict[Key, bool | None] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._backoff = Backoff(random.Random())  # noqa: S311 - jitter, not secrecy
        # Retained, so a new connection is told all of them.
        filters = [(one, 1) for one in self._filters.values()]
        self._watch = TopicWatch(settings.mqtt, f"{service}-presence", filters, self.hear)

    def run(self) -> None:
        """Watches until `stop`."""
        if not self._filters:
            self._stop.wait()
            return
        self._watch.start()
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            if not self._stop.is_set() and not self._write():
                self._stop.wait(self._backoff.next_s())
        self._watch.stop()

    def stop(self) -> None:
        """Ends `run`. Any thread."""
        self._stop.set()
        self._changed.set()

    def hear(self, mqtt_topic: str, payload: bytes) -> None:
        """Notes a status; an empty one, by which a retained message is deleted, takes it back."""
        online = parse_status(payload)
        if online is None and payload:
            log.warning("status_unreadable", mqtt_topic=mqtt_topic, payload=bytes(payload[:40]))
            return
        with self._lock:
            for stream, topics in self._topics.items():
                device_id = topics.device_of(mqtt_topic)
                if device_id is None or not DEVICE_ID.fullmatch(device_id):
                    continue
                if len(self._said) < MAX_WAITING or (stream, device_id) in self._said:
                    self._said[stream, device_id] = online
        self._changed.set()

    def _write(self) -> bool:
        with self._lock:
            said, self._said = self._said, {}
        if not said:
            return True
        try:
            write_presence(self._url, said)
        except HlError as exc:
            log.warning("presence_not_written", n_devices=len(said), error=str(exc))
            with self._lock:
                # What was said meanwhile is newer.
                self._said = {**said, **self._said}
            self._changed.set()
            return False
        self._backoff.reset()
        log.info("presence_written", n_devices=len(said))
        return True
