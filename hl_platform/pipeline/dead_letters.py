"""Makes the Kafka record of a rejected one."""

import hashlib
from datetime import datetime
from typing import Any, NamedTuple

from hl_platform import __version__
from hl_platform.core.dead_letters import MAX_DETAIL_CHARS, DeadLetter, fingerprint_of
from hl_platform.core.errors import PoisonRecordError
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
