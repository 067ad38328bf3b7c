"""What a record that was rejected carries into the dead-letter topic, so that it can be understood and replayed."""

from datetime import datetime

from hl_platform import __version__
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.streams import Stream

# Kafka refuses records over a megabyte; what is cut off is said in `hl.truncated_from_bytes`.
MAX_KEPT_BYTES = 900_000


def dead_letter_headers(
    stream: Stream, stage: str, fault: PoisonRecordError, failed_at: datetime, origin: dict[str, str]
) -> dict[str, str | bytes]:
    """Headers of a dead letter.

    Args:
        stream: whose record it was.
        stage: `bridge` or `sink`.
        fault: why it was rejected.
        failed_at: when.
        origin: where it came from: MQTT topic, QoS and retained flag, or Kafka topic, partition and offset.
    """
    return {
        "hl.stream": stream.name,
        "hl.stage": stage,
        "hl.reason": fault.reason,
        "hl.detail": fault.detail[:2_000],
        "hl.failed_at": failed_at.isoformat(),
        "hl.version": __version__,
        **{f"hl.{key}": value for key, value in origin.items()},
    }


def kept_bytes(value: bytes, headers: dict[str, str | bytes]) -> bytes:
    """The original bytes, unchanged unless Kafka could not hold them; a cut is noted in the headers."""
    if len(value) > MAX_KEPT_BYTES:
        headers["hl.truncated_from_bytes"] = str(len(value))
    return value[:MAX_KEPT_BYTES]
