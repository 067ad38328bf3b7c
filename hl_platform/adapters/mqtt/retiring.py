"""Empties the session of a bridge that is not wanted any more, and ends it for good."""

import time
from collections.abc import Iterable, Sequence

import structlog

from hl_platform.adapters.mqtt.packets import MqttMessage, Packet, encode_disconnect, encode_unsubscribe
from hl_platform.adapters.mqtt.session import UNSUBSCRIBE_ID, SocketSession

log = structlog.get_logger()

# A broker sends what it has kept at once; this leaves room for one that is busy.
QUIET_S = 3.0


class RetiringSession(SocketSession):
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
        """Whether nothing has come for some seconds and all that came is acknowledged. Any thread."""
        # In this order: what comes in between is noise first, and unacknowledged then.
        n_unacknowledged, quiet_since = len(self._window), self._quiet_since
        return quiet_since is not None and not n_unacknowledged and time.monotonic() - quiet_since > QUIET_S

    def stop(self) -> None:
        """Ends the session for good if it is empty; otherwise disconnects and leaves it at the broker."""
        if not self.emptied:
            super().stop()
            return
        self._end(encode_disconnect(session_expiry_s=0))
        self.ended = True
        log.info("mqtt_session_ended", client_id=self._client_id)

    def _connected(self, *, session_present: bool) -> None:
        log.info("mqtt_session_retiring", client_id=self._client_id, session_present=session_present)
        # It may stem from a time with one bridge or with several.
        plain = [one.mqtt_filter.removeprefix("$share/hl/") for one in self._filters]
        self._send(encode_unsubscribe(UNSUBSCRIBE_ID, [*plain, *(f"$share/hl/{name}" for name in plain)]))

    def _unsubscribed(self) -> None:
        self._quiet_since = time.monotonic()

    def _take(self, packets: Iterable[Packet]) -> Sequence[MqttMessage]:
        packets = list(packets)
        if any(isinstance(packet, MqttMessage) for packet in packets):
            self._quiet_since = time.monotonic()
        return super()._take(packets)

    def _lose(self, reason: str, *, say: int | None = None) -> None:
        self._quiet_since = None
        super()._lose(reason, say=say)
