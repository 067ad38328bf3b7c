"""What a cell sends, and what must have become of it: readings of several devices with every kind of trouble."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message as KafkaMessage

from hl_platform.core.dead_letters import DeadLetter
from tests.home import Home, reading

N_DEVICES = 5
# Of 100 messages; the rest are readings of their own.
N_REPEATED, N_CORRECTED, N_LATE, N_INVALID = 8, 8, 4, 5
# Days back of late readings: some with a table partition of their own, one in that of everything older.
LATE_DAYS = (2, 9, 200)
INVALID = (
    b"not json",
    b"",
    b'{"timestamp": "2026-01-01T00:00:00Z"}',
    b'{"timestamp": "yesterday", "total_energy_kwh": 1, "power_kw": 1}',
    b'{"timestamp": "2026-01-01T00:00:00Z", "total_energy_kwh": 1, "power_kw": "much"}',
    b'{"timestamp": "2001-01-01T00:00:00Z", "total_energy_kwh": 1, "power_kw": 1}',
    b"\xff\xfe",
)
Key = tuple[str, datetime]
Row = tuple[float, float, float, float, int]


class Message(NamedTuple):
    """What one device publishes once.

    Args:
        device: which.
        payload: as published.
        at: the device's time; None if the payload is invalid.
        row: the values it makes a row of, `seq` last; None if it is invalid.
    """

    device: str
    payload: bytes
    at: datetime | None
    row: Row | None


def plan_load(rng: random.Random, n: int) -> list[Message]:
    """Messages of all kinds in an order of chance; `seq` counts the different ones."""
    base = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    messages: list[Message] = []
    for seq in range(n):
        kind = rng.randrange(100)
        device = f"meter{rng.randrange(N_DEVICES)}"
        own = [message for message in messages if message.device == device and message.at]
        at = base + timedelta(seconds=seq)
        if (kind := kind - N_INVALID) < 0:
            messages.append(Message(device, _numbered(rng.choice(INVALID), seq), None, None))
        elif own and (kind := kind - N_REPEATED) < 0:
            messages.append(rng.choice(own[-20:]))
        elif own and (kind := kind - N_CORRECTED) < 0:
            messages.append(_reading(rng, device, rng.choice(own[-20:]).at or at, seq))
        elif (kind := kind - N_LATE) < 0:
            messages.append(_reading(rng, device, at - timedelta(days=rng.choice(LATE_DAYS)), seq))
        else:
            messages.append(_reading(rng, device, at, seq))
    return messages


def _numbered(payload: bytes, seq: int) -> bytes:
    # So that each can be told from the others.
    return (
        payload.replace(b"{", b'{"seq": %d, ' % seq, 1) if payload.startswith(b"{") else payload + b"%d" % seq
    )


def _reading(rng: random.Random, device: str, at: datetime, seq: int) -> Message:
    energy, power, voltage, current = 100.0 + seq, rng.randrange(90) / 8, 230.0, rng.randrange(90) / 4
    payload = reading(at, total_energy_kwh=energy, power_kw=power, voltage=voltage, current=current, seq=seq)
    return Message(device, payload, at, (energy, power, voltage, current, seq))


def plan_garbage(rng: random.Random, n: int) -> list[tuple[str, bytes]]:
    """Records that some other program puts on the Kafka topic, and that the sink must reject."""
    return [(f"meter{rng.randrange(N_DEVICES)}", b"garbage %d" % number) for number in range(n)]


def expected_rows(messages: Iterable[Message]) -> dict[Key, Row]:
    """The table that the messages make: the last one of a device and a timestamp wins."""
    return {(message.device, message.at): message.row for message in messages if message.at and message.row}


def stored_rows(home: Home) -> dict[Key, Row]:
    """The table as it is."""
    rows = home.query(
        "select device_id, timestamp, total_energy_kwh, power_kw, voltage, current, (extra ->> 'seq')::int "
        "from {energy}"
    )
    return {(device, at): tuple(values) for device, at, *values in rows}  # type: ignore[misc]


def expected_order(messages: Iterable[Message]) -> dict[str, list[int]]:
    """The readings of each device in the order in which it published them first."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for message in messages:
        if message.row:
            found[message.device].setdefault(message.row[-1])
    return {device: list(seqs) for device, seqs in found.items()}


def order_of(records: Iterable[KafkaMessage]) -> dict[str, list[int]]:
    """The first occurrences of the readings of each device in the order in which they are on Kafka."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for record in records:
        body: Any = _json(record.value() or b"")
        if isinstance(body, dict):
            found[body["device_id"]].setdefault(body["seq"])
    return {device: list(seqs) for device, seqs in found.items()}


def _json(value: bytes) -> object:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return None


class DeadLetters(NamedTuple):
    """What is on the dead-letter topic.

    Args:
        bridge: (mqtt_topic, payload), how often.
        sink: (kafka_partition, offset, value), how often.
    """

    bridge: Counter[tuple[str, bytes]]
    sink: Counter[tuple[int, int, bytes]]


def dead_letters(home: Home) -> DeadLetters:
    """What is on the dead-letter topic."""
    found = DeadLetters(Counter(), Counter())
    for record in home.records(home.energy.dead_letter_topic):
        letter = DeadLetter.from_headers(record.headers() or [])
        value = record.value() or b""
        if letter.stage == "bridge":
            found.bridge[letter.mqtt_topic or "", value] += 1
        else:
            found.sink[letter.kafka_partition or 0, letter.offset or 0, value] += 1
    return found


def garbage_of(records: Iterable[KafkaMessage]) -> set[tuple[int, int, bytes]]:
    """Where the garbage is on the stream's topic."""
    return {
        (record.partition() or 0, record.offset() or 0, record.value() or b"")
        for record in records
        if (record.value() or b"").startswith(b"garbage")
    }
