"""Whether a device is there, as it says itself, or its broker by the device's last will."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

# One level is `+`: the device. Anything with `#`, or with two of them, would leave open who is meant.
PresenceFilter = Annotated[
    str, Meta(pattern=r"^(?:[^#+/\x00$][^#+/\x00]*/|/)*\+(?:/[^#+/\x00]*)*$", max_length=200)
]
STATES = {b"online": True, b"offline": False}
# A status is short; whatever is longer is none.
MAX_STATUS_BYTES = 1_024


class _State(msgspec.Struct):
    state: str


_decoder = msgspec.json.Decoder(_State)


class PresenceTopics:
    """The status topics of a stream.

    Args:
        presence_filter: with one level `+`, which is the device's id.
    """

    def __init__(self, presence_filter: str) -> None:
        before, _, behind = presence_filter.partition("+")
        self._topic = re.compile(f"{re.escape(before)}([^/]+){re.escape(behind)}")

    def device_of(self, mqtt_topic: str) -> str | None:
        """Whose status a topic holds; None where it is no status topic of this stream."""
        found = self._topic.fullmatch(mqtt_topic)
        return found[1] if found else None


def parse_status(payload: bytes) -> bool | None:
    """Whether a status says online; None where it says neither.

    Source: `online` and `offline` are what Zigbee2MQTT, ESPHome, Tasmota and Home Assistant write, some of them with
    capitals, some as `{"state": "online"}`.
    """
    if len(payload) > MAX_STATUS_BYTES:
        return None
    text: Any = payload.strip()
    if text.startswith(b"{"):
        try:
            text = _decoder.decode(text).state.encode()
        except (msgspec.DecodeError, UnicodeError):
            return None
    return STATES.get(text.lower())
