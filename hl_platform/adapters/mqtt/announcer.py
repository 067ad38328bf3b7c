"""Says on a device's status topic that it is there, and has the broker say when it is not."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hl_platform.adapters.mqtt.client import disconnect, make_client
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import require_address

ONLINE, OFFLINE = b"online", b"offline"
KEEPALIVE_S = 15
RECONNECT_S = (1, 30)
# A broker that is being stopped as well is not waited for longer.
LAST_WORD_S = 1.0


class Announcer:
    """One device's connection: MQTT knows one last will for each.

    Guarantee: the status is `online` while it is connected, and `offline` otherwise, as far as the broker lives.

    Args:
        mqtt: broker and credentials.
        mqtt_topic: of the status.
        keepalive_s: the broker says `offline` after one and a half times of silence, in seconds.
    """

    def __init__(self, mqtt: MqttSettings, mqtt_topic: str, keepalive_s: int = KEEPALIVE_S) -> None:
        self._host, self._port = require_address(mqtt.host, "mqtt", "host"), mqtt.port
        self._mqtt_topic, self._keepalive_s = mqtt_topic, keepalive_s
        self._client = make_client(mqtt, f"{mqtt.client_id_prefix}-status-{secrets.token_hex(4)}")
        self._client.will_set(mqtt_topic, OFFLINE, qos=1, retain=True)
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected

    def start(self) -> None:
        """Connects in the background, again and again if need be."""
        self._client.connect_async(self._host, self._port, keepalive=self._keepalive_s, clean_start=True)
        self._client.loop_start()

    def stop(self) -> None:
        """Says so and disconnects: an orderly end has no last will."""
        if self._client.is_connected():
            self._client.publish(self._mqtt_topic, OFFLINE, qos=1, retain=True).wait_for_publish(LAST_WORD_S)
        disconnect(self._client)

    def _connected(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            client.publish(self._mqtt_topic, ONLINE, qos=1, retain=True)


@contextmanager
def announced(mqtt: MqttSettings, mqtt_topics: Sequence[str]) -> Iterator[None]:
    """Devices that are there for as long as the block lasts."""
    announcers = [Announcer(mqtt, mqtt_topic) for mqtt_topic in mqtt_topics]
    for announcer in announcers:
        announcer.start()
    try:
        yield
    finally:
        for announcer in announcers:
            announcer.stop()
