"""What every MQTT client of ours shares: version, credentials, and what a refusal means."""

from contextlib import suppress

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import MqttSettings

# MQTT 5.0, 3.2.2.2: bad user name or password; not authorized.
REFUSED_FOR_GOOD = (0x86, 0x87)


def make_client(mqtt: MqttSettings, client_id: str) -> paho.Client:
    """An MQTT 5 client with the settings' credentials, not connected yet.

    Args:
        mqtt: user, password and TLS.
        client_id: names the session at the broker.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
    if mqtt.username is not None:
        client.username_pw_set(mqtt.username, mqtt.password)
    if mqtt.tls:
        client.tls_set(mqtt.tls_ca_file, mqtt.tls_cert_file, mqtt.tls_key_file)
    return client


def disconnect(client: paho.Client) -> None:
    """Disconnects a client whose loop runs in a thread, and waits for the end of that. Harmless twice."""
    client.disconnect()
    stop_loop(client)


def stop_loop(client: paho.Client) -> None:
    """Ends the thread of a client's loop, and waits for it.

    The library forgets the thread when that ends, perhaps between asking for it and waiting for it, and then fails
    (eclipse-paho/paho.mqtt.python#872). There is nothing to wait for any more.
    """
    with suppress(AttributeError):
        client.loop_stop()


def refusal(reason: int, text: str) -> ConfigError | None:
    """Why trying again is of no use; None where it is.

    Args:
        reason: code of MQTT 5.
        text: the same in words.
    """
    if reason not in REFUSED_FOR_GOOD:
        return None
    return ConfigError(f"The MQTT broker refused us: {text}. Check HL_MQTT__USERNAME and HL_MQTT__PASSWORD.")
