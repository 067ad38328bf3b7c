"""The MQTT client of who looks."""

import pytest

from hl_platform.adapters.mqtt.listener import MqttListener
from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import MqttSettings
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import eventually


def test_broker_that_refuses_us_is_said_and_not_waited_for(closed_mosquitto: EmbeddedMosquitto):
    mqtt = MqttSettings(host=closed_mosquitto.host, port=closed_mosquitto.port)
    listener = MqttListener(mqtt, "test", ["a/#"], lambda _: None)
    with pytest.raises(ConfigError, match="HL_MQTT__USERNAME"):
        listener.open(30.0)


def test_retained_messages_of_before_are_not_heard(mosquitto: EmbeddedMosquitto):
    mqtt = MqttSettings(host=mosquitto.host, port=mosquitto.port)
    heard: list[bytes] = []
    first = MqttListener(mqtt, "test", ["heard/#"], lambda _: None)
    first.open(30.0)
    first._client.publish("heard/a", b"before", 1, retain=True).wait_for_publish(30.0)
    second = MqttListener(mqtt, "test", ["heard/#"], lambda message: heard.append(message.payload))
    second.open(30.0)
    first.publish("heard/a", b"after")
    eventually(lambda: heard)
    first._client.publish("heard/a", b"", 1, retain=True).wait_for_publish(30.0)
    first.close()
    second.close()
    assert heard[0] == b"after"
