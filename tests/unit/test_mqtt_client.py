"""The end of MQTT clients."""

import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.mqtt.client import disconnect


def test_a_loop_that_ends_while_it_is_stopped_has_ended(monkeypatch: pytest.MonkeyPatch):
    """It is there for the library's two looks whether there is one, and no more when it is waited for."""
    looks = iter([threading.Thread(), threading.Thread(), None])
    client = paho.Client(CallbackAPIVersion.VERSION2)
    monkeypatch.setattr(
        paho.Client, "_thread", property(lambda _client: next(looks), lambda *_: None), raising=False
    )
    disconnect(client)
    assert next(looks, "no further look") == "no further look"
