"""Says of rejected records whether they would be accepted now."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from hl_platform.adapters.kafka.letters import LetterRecord
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.dead_letter_index import Entry
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Reading, ReadingDecoder, Source
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream

# Why an entry can never be replayed, for a person.
IMPOSSIBLE = {
    "truncated": "bytes were cut off when it was rejected; only its device can send it again",
    "expired": "Kafka no longer has its bytes",
    "unknown_stream": "no stream of that name is declared",
    "not_a_dead_letter": "its origin is not known, so it cannot be sent on",
}
Kind = Literal["accepted", "rejected", "impossible"]


class Replay(NamedTuple):
    """The record that replays an entry."""

    key: str | bytes | None
    value: bytes
    reading: Reading


class Verdict(NamedTuple):
    """What becomes of an entry that is replayed now.

    Args:
        entry: which.
        kind: `accepted`, `rejected` again, or `impossible` to replay.
        reason: code, where it is not accepted.
        detail: the same in words.
        record: what goes to the stream's topic, where it is accepted.
    """

    entry: Entry
    kind: Kind
    reason: str = ""
    detail: str = ""
    record: Replay | None = None

    @property
    def succeeds(self) -> bool:
        """Whether it is accepted."""
        return self.kind == "accepted"

    @property
    def possible(self) -> bool:
        """Whether it can be replayed at all, however that may end."""
        return self.kind != "impossible"


class Judge:
    """Judges by the rules that the bridge and the sink go by.

    Args:
        settings: where the database is, and which readings are believed.
        streams: by name.
    """

    def __init__(self, settings: Settings, streams: Mapping[str, Stream]) -> None:
        url = require_address(settings.database.url, "database", "url")
        days = settings.sink.raw_retention_days
        self._decoders = {name: ReadingDecoder(stream, settings.reading) for name, stream in streams.items()}
        # They try and take back; without a lease they could not commit.
        self._stores = {
            name: SinkStore(url, stream, "reprocess", retention_days=days, lease_epoch=0)
            for name, stream in streams.items()
        }

    def close(self) -> None:
        """Closes the connections to the database."""
        for store in self._stores.values():
            store.close()

    def judge(self, entries: Sequence[Entry], records: Mapping[int, LetterRecord]) -> list[Verdict]:
        """A verdict on each entry, in order, as far as the decoder can tell.

        Args:
            entries: which.
            records: what Kafka holds of them, by id.
        """
        return [self._judge_one(entry, records.get(entry.id)) for entry in entries]

    def try_on_database(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The same verdicts, with what the database would reject; it is tried there and taken back.

        Raises:
            TransientError: the database is away.
        """
        last: dict[str, dict[tuple[str, datetime], int]] = defaultdict(dict)
        for index, verdict in enumerate(verdicts):
            if verdict.record is not None:
                reading = verdict.record.reading
                # Of several for one row only one can be tried at a time; the last is what would stay.
                last[verdict.entry.stream][reading.device_id, reading.timestamp] = index
        judged = list(verdicts)
        for stream, indexes in last.items():
            tried = list(indexes.values())
            readings = [record.reading for index in tried if (record := verdicts[index].record)]
            for number, fault in self._stores[stream].find_rejected(readings):
                entry = verdicts[tried[number]].entry
                judged[tried[number]] = Verdict(entry, "rejected", fault.reason, fault.detail)
        return judged

    def _judge_one(self, entry: Entry, record: LetterRecord | None) -> Verdict:
        decoder = self._decoders.get(entry.stream)
        if entry.truncated_from_bytes is not None:
            return _impossible(entry, "truncated")
        if decoder is None:
            return _impossible(entry, "unknown_stream")
        if record is None:
            return _impossible(entry, "expired")
        try:
            replay = make_replay(entry, record, decoder)
        except PoisonRecordError as fault:
            return Verdict(entry, "rejected", fault.reason, fault.detail)
        return (
            Verdict(entry, "accepted", record=replay) if replay else _impossible(entry, "not_a_dead_letter")
        )


def make_replay(entry: Entry, record: LetterRecord, decoder: ReadingDecoder) -> Replay | None:
    """The record that replays an entry; None where its origin is not known.

    A payload that the bridge rejected becomes the record that the bridge would have made of it then, with the
    time at which it was received then. A record that the sink rejected stays as it is, bytes and key.

    Raises:
        PoisonRecordError: it would be rejected again.
    """
    if entry.stage == "bridge" and entry.mqtt_topic is not None:
        received_at = entry.received_at or entry.first_failed_at
        source = Source(entry.mqtt_topic, entry.qos or 0, bool(entry.retained), entry.bridge or "")
        key, value = decoder.encode_record(record.value, received_at, source)
        return Replay(key, value, decoder.decode_record(value, key, received_at))
    if entry.stage == "sink":
        key_text = None if record.key is None else record.key.decode(errors="replace")
        reading = decoder.decode_record(record.value, key_text, entry.kafka_time or entry.first_failed_at)
        return Replay(record.key, record.value, reading)
    return None


def _impossible(entry: Entry, reason: str) -> Verdict:
    return Verdict(entry, "impossible", reason, IMPOSSIBLE[reason])
