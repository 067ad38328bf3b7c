"""What is kept of a rejected record: its bytes in the value, and around them why, where from and when, in headers."""

import functools
import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from hl_platform.core.errors import PoisonRecordError

PREFIX = "hl."
# What differs between two failures that are alike: numbers, and whatever stands in quotes.
PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|[+-]?\d[\d.:eE+TZ-]*")
MAX_DETAIL_CHARS = 2_000
# Names a dead letter in the headers of the record that replays it.
REPLAY_OF = "hl.replay_of"
# The Kafka timestamp of the record before it was replayed, in ms: taken as received_at where the value has none,
# so that a replay counts as old as it is. Not the replay's own timestamp, from which Kafka counts its retention.
FIRST_KAFKA_MS = "hl.first_kafka_ms"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected record without its bytes.

    Args:
        stream: whose record it was.
        stage: who rejected it: `bridge` or `sink`.
        reason: constant code, such as `not_json` or `sqlstate_22003`.
        detail: the same in words.
        fingerprint: the same for alike failures, see `fingerprint_of`.
        attempts: how often it was tried, replays included.
        first_failed_at, last_failed_at: aware.
        version: of hl that rejected it.
        declaration: digest of the stream's declaration then (`Stream.digest`).
        sqlstate, column: where the database rejected it, as far as it says.
        device_id: as far as it could be told.
        mqtt_topic, qos, retained, received_at, bridge: of a record that the bridge rejected.
        kafka_topic, kafka_partition, offset, kafka_time: of a record that the sink rejected.
        truncated_from_bytes: how long the value was, if it was cut; None if it is whole.
        sha256: of the whole value, in hexadecimal, if it was cut.
        replay_of: the dead letter whose replay failed again, as `entry_name` writes it.
    """

    stream: str
    stage: str
    reason: str
    detail: str
    fingerprint: str
    attempts: int = 1
    first_failed_at: datetime
    last_failed_at: datetime
    version: str
    declaration: str = ""
    sqlstate: str | None = None
    column: str | None = None
    device_id: str | None = None
    mqtt_topic: str | None = None
    qos: int | None = None
    retained: bool | None = None
    received_at: datetime | None = None
    bridge: str | None = None
    kafka_topic: str | None = None
    kafka_partition: int | None = None
    offset: int | None = None
    kafka_time: datetime | None = None
    truncated_from_bytes: int | None = None
    sha256: str | None = None
    replay_of: str | None = None

    def to_headers(self) -> dict[str, str | bytes]:
        """Kafka headers: one `hl.<name>` for each field that is not None, readable as text."""
        fields: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return {f"{PREFIX}{name}": _text_of(value) for name, value in fields.items() if value is not None}

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | None]]) -> "DeadLetter":
        """The dead letter that headers describe; unknown headers are ignored.

        Raises:
            PoisonRecordError: they are not those of a dead letter (reason `not_a_dead_letter`).
        """
        found = {
            name.removeprefix(PREFIX): value.decode(errors="replace")
            for name, value in headers
            if name.startswith(PREFIX) and value is not None
        }
        # Written by the version before: one time of failure, since there was one try.
        if "failed_at" in found:
            failed_at = found.pop("failed_at")
            found = {"first_failed_at": failed_at, "last_failed_at": failed_at, "fingerprint": "", **found}
        try:
            return msgspec.convert(found, cls, strict=False)
        except msgspec.ValidationError as exc:
            raise PoisonRecordError("not_a_dead_letter", str(exc)) from exc


def fingerprint_of(stream: str, stage: str, fault: PoisonRecordError) -> str:
    """16 hexadecimal digits that failures have in common when they differ only in values.

    Args:
        stream: whose record was rejected.
        stage: who rejected it.
        fault: why.
    """
    return _fingerprint(stream, stage, fault.reason, fault.column or "", fault.detail[:MAX_DETAIL_CHARS])


# A flood of garbage says the same again and again.
@functools.lru_cache(maxsize=1_000)
def _fingerprint(stream: str, stage: str, reason: str, column: str, detail: str) -> str:
    alike = "\0".join((stream, stage, reason, column, PARTICULARS.sub("?", detail)))
    return hashlib.sha256(alike.encode(errors="replace")).hexdigest()[:16]


def entry_name(kafka_topic: str, kafka_partition: int, offset: int) -> str:
    """Names a dead letter by its place: `<kafka_topic>/<kafka_partition>/<offset>`."""
    return f"{kafka_topic}/{kafka_partition}/{offset}"


def parse_entry_name(name: str) -> tuple[str, int, int]:
    """The place that `entry_name` wrote.

    Raises:
        ValueError: it is none.
    """
    kafka_topic, kafka_partition, offset = name.rsplit("/", 2)
    return kafka_topic, int(kafka_partition), int(offset)


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
