"""Which stream an MQTT topic belongs to."""

from collections.abc import Iterable

from hl_platform.core.presence import PresenceTopics
from hl_platform.core.streams import Stream


class Router:
    """Finds the stream of a topic.

    The filters of two streams never overlap and all end in `/#`, so at most one prefix fits.

    Args:
        streams: as `check_streams` returned them.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        streams = list(streams)
        self._prefixes = [(stream.mqtt_filter.removesuffix("#"), stream) for stream in streams]
        self._statuses = [PresenceTopics(one.presence_filter) for one in streams if one.presence_filter]

    def stream_of(self, mqtt_topic: str) -> Stream | None:
        """The stream whose filter matches; None where there is none, or the topic is one of statuses."""
        if self.is_status(mqtt_topic):
            return None
        # "homelab/energy/#" also matches "homelab/energy" itself: MQTT 5.0, 4.7.1.2.
        slashed = mqtt_topic + "/"
        for prefix, stream in self._prefixes:
            if slashed.startswith(prefix):
                return stream
        return None

    def is_status(self, mqtt_topic: str) -> bool:
        """Whether devices say there that they are online: such a message is never a reading."""
        return any(topics.device_of(mqtt_topic) is not None for topics in self._statuses)
