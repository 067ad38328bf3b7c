"""Makes the Kafka record of a rejected one."""

import hashlib
from datetime import datetime
from typing import Any, NamedTuple

from hl_platform import __version__
from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.core.dead_letters import MAX_DETAIL_CHARS, DeadLetter, fingerprint_of
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import device_of_topic
from hl_platform.core.streams import Stream

# Kafka refuses records over a megabyte; what is cut off is said, with the hash of the whole.
MAX_KEPT_BYTES = 900_000


class DeadLetterRecord(NamedTuple):
    """What goes to the dead-letter topic: the original value, and headers around it."""

    value: bytes
    headers: dict[str, str | bytes]


def make_dead_letter(
    stream: Stream,
    stage: str,
    fault: PoisonRecordError,
    value: bytes,
    failed_at: datetime,
    *,
    max_kept_bytes: int = MAX_KEPT_BYTES,
    attempts: int = 1,
    first_failed_at: datetime | None = None,
    **origin: Any,  # noqa: ANN401 - fields of DeadLetter, checked there
) -> DeadLetterRecord:
    """The dead letter of a record.

    Args:
        stream: whose record it was.
        stage: `bridge` or `sink`.
        fault: why it was rejected.
        value: its bytes.
        failed_at: when, aware.
        max_kept_bytes: a longer value is cut to this, and the cut is said with its hash.
        attempts: how often it was tried.
        first_failed_at: when it was rejected first, if that was earlier.
        origin: where it came from: fields of `DeadLetter`.
    """
    cut = len(value) > max_kept_bytes
    letter = DeadLetter(
        stream=stream.name,
        stage=stage,
        reason=fault.reason,
        detail=fault.detail[:MAX_DETAIL_CHARS],
        fingerprint=fingerprint_of(stream.name, stage, fault),
        attempts=attempts,
        first_failed_at=first_failed_at or failed_at,
        last_failed_at=failed_at,
        version=__version__,
        declaration=stream.digest,
        sqlstate=fault.sqlstate,
        column=fault.column,
        truncated_from_bytes=len(value) if cut else None,
        sha256=hashlib.sha256(value).hexdigest() if cut else None,
        **origin,
    )
    return DeadLetterRecord(value[:max_kept_bytes], letter.to_headers())


class BridgeLetters:
    """Makes the dead letters of one stream in one bridge, as `make_dead_letter` would and several times faster.

    A flood of garbage must not cost more than the same flood of readings.

    Args:
        stream: whose messages.
        bridge: the service.
        max_kept_bytes: a longer payload is cut to this, and the cut is said with its hash.
    """

    def __init__(self, stream: Stream, bridge: str, max_kept_bytes: int) -> None:
        self._stream = stream.name
        self._max_kept_bytes = max_kept_bytes
        self._common: dict[str, str | bytes] = {
            "hl.stream": stream.name,
            "hl.stage": "bridge",
            "hl.attempts": "1",
            "hl.version": __version__,
            "hl.declaration": stream.digest,
            "hl.bridge": bridge,
        }

    def make(self, fault: PoisonRecordError, message: MqttMessage, received_at: datetime) -> DeadLetterRecord:
        """The dead letter of a message that was rejected when it was received."""
        value, at = message.payload, received_at.isoformat()
        headers = {
            **self._common,
            "hl.reason": fault.reason,
            "hl.detail": fault.detail[:MAX_DETAIL_CHARS],
            "hl.fingerprint": fingerprint_of(self._stream, "bridge", fault),
            "hl.first_failed_at": at,
            "hl.last_failed_at": at,
            "hl.received_at": at,
            "hl.mqtt_topic": message.mqtt_topic,
            "hl.qos": str(message.qos),
            "hl.retained": "true" if message.retained else "false",
        }
        device_id = device_of_topic(message.mqtt_topic)
        if device_id is not None:
            headers["hl.device_id"] = device_id
        if len(value) > self._max_kept_bytes:
            headers["hl.truncated_from_bytes"] = str(len(value))
            headers["hl.sha256"] = hashlib.sha256(value).hexdigest()
            value = value[: self._max_kept_bytes]
        return DeadLetterRecord(value, headers)
