"""Empties the session of a bridge that is not wanted any more, and ends it for good."""

import time

import paho.mqtt.client as paho
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hl_platform.adapters.mqtt.session import PahoSession

log = structlog.get_logger()

# A broker sends what it has kept at once; this leaves room for one that is busy.
QUIET_S = 3.0


class RetiringSession(PahoSession):
    """A session that receives what the broker kept for it and nothing else.

    It unsubscribes, so that the broker gives it nothing further, and takes what is there already.

    Guarantee: the broker forgets the session only after everything in it was acknowledged; if it ends sooner,
    the session stays as it is.
    Source: MQTT 5.0, 3.10.4 (what is buffered may still be delivered after UNSUBSCRIBE; Mosquitto does) and
    3.14.2.2.2 (a session expiry of 0 in DISCONNECT ends the session).
    """

    # Whether the broker was told to forget the session.
    ended = False
    _quiet_since: float | None = None

    @property
    def emptied(self) -> bool:
        """Whether nothing has come for some seconds and all that came is acknowledged."""
        with self._lock:
            quiet_since, n_unacknowledged = self._quiet_since, len(self._window)
        return quiet_since is not None and not n_unacknowledged and time.monotonic() - quiet_since > QUIET_S

    def stop(self) -> None:
        """Ends the session for good if it is empty; otherwise disconnects and leaves it at the broker."""
        if not self.emptied:
            super().stop()
            return
        self._stopping = True
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()
        self.ended = True
        log.info("mqtt_session_ended", client_id=self._client_id)

    def _connected(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            super()._connected(client, userdata, flags, reason, properties)
            return
        log.info("mqtt_session_retiring", client_id=self._client_id, session_present=flags.session_present)
        client.on_unsubscribe = self._unsubscribed
        # It may stem from a time with one bridge or with several.
        plain = [mqtt_filter.removeprefix("$share/hl/") for mqtt_filter in self._filters]
        client.unsubscribe([*plain, *(f"$share/hl/{mqtt_filter}" for mqtt_filter in plain)])

    def _unsubscribed(
        self,
        _client: paho.Client,
        _userdata: object,
        _packet_id: int,
        _reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._note_noise()

    def _received(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self._note_noise()
        super()._received(client, userdata, message)

    def _disconnected(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._lock:
            self._quiet_since = None
        super()._disconnected(client, userdata, flags, reason, properties)

    def _note_noise(self) -> None:
        with self._lock:
            self._quiet_since = time.monotonic()
