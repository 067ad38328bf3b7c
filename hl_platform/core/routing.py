"""Which stream an MQTT topic belongs to."""

from collections.abc import Iterable

from hl_platform.core.streams import Stream


class Router:
    """Finds the stream of a topic.

    The filters of two streams never overlap and all end in `/#`, so at most one prefix fits.

    Args:
        streams: as `check_streams` returned them.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._prefixes = [(stream.mqtt_filter.removesuffix("#"), stream) for stream in streams]

    def stream_of(self, mqtt_topic: str) -> Stream | None:
        """The stream whose filter matches, or None."""
        # "homelab/energy/#" also matches "homelab/energy" itself: MQTT 5.0, 4.7.1.2.
        slashed = mqtt_topic + "/"
        for prefix, stream in self._prefixes:
            if slashed.startswith(prefix):
                return stream
        return None
