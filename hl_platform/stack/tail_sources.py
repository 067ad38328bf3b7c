"""Where the readings come from that `hl tail` shows: each source goes on until `stop` is set, by a client of its own.

None of them joins a consumer group or keeps an MQTT session, and each holds a bounded number of readings: what a
terminal is too slow for waits in Kafka, or is dropped by MQTT or the feed, and then said.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from threading import Event, Lock, Thread
from typing import Any

from hl_platform.adapters.feed_client import FeedConnection, open_feed
from hl_platform.adapters.kafka.letters import LetterRecord
from hl_platform.adapters.kafka.tail import TopicTail
from hl_platform.adapters.mqtt.listener import Heard, MqttListener
from hl_platform.adapters.postgres.row_watch import RowWatch
from hl_platform.core.dead_letters import DeadLetter
from hl_platform.core.errors import HlError, PoisonRecordError, TransientError
from hl_platform.core.routing import Router
from hl_platform.core.settings import Settings
from hl_platform.core.streams import Stream
from hl_platform.stack.tail_lines import Seen, raw_text, seen_body, seen_message, time_text, values_text

Streams = Mapping[str, Stream]
Readings = Generator[Seen, None, None]

ANSWER_S = 5.0
POLL_S = 0.2
MAX_WAITING = 1_000


def mqtt_readings(settings: Settings, streams: Streams, stop: Event) -> Readings:
    """What devices publish, valid or not, as the broker hands it on."""
    waiting = _Waiting()
    router = Router(streams.values())

    def hear(heard: Heard) -> None:
        stream = router.stream_of(heard.mqtt_topic)
        if stream is not None:
            waiting.put(seen_message(stream, heard.mqtt_topic, heard.payload))

    filters = [stream.mqtt_filter for stream in streams.values()]
    with closing(MqttListener(settings.mqtt, "tail", filters, hear)) as listener:
        listener.open(ANSWER_S)
        yield from waiting.items(stop)


def kafka_readings(settings: Settings, streams: Streams, stop: Event) -> Readings:
    """What the bridge has put on Kafka."""
    by_topic = {stream.kafka_topic: stream for stream in streams.values()}
    for record in _records(settings, by_topic, stop):
        yield seen_body(by_topic[record.kafka_topic], record.value, _place_of(record), _key_of(record))


def dead_letters(settings: Settings, streams: Streams, stop: Event) -> Readings:
    """What is rejected, with the reason."""
    by_topic = {stream.dead_letter_topic: stream for stream in streams.values()}
    for record in _records(settings, by_topic, stop):
        yield _seen_letter(record)


def row_readings(settings: Settings, streams: Streams, stop: Event) -> Readings:
    """What the sink stores, as it stands in the table, once the offset behind it is committed."""
    by_topic = {stream.kafka_topic: stream for stream in streams.values()}
    url = settings.database.read_url or settings.database.url or ""
    with (
        closing(RowWatch(url, by_topic, settings.reading)) as watch,
        # From where the sinks are: what they have not stored yet passes, too.
        closing(TopicTail(settings.kafka, list(by_topic), "hl-tail", watch.next_offsets())) as tail,
    ):
        waiting: deque[LetterRecord] = deque()
        while not stop.is_set():
            # No further than this ahead of the sink: Kafka keeps the rest.
            if len(waiting) < MAX_WAITING and (record := tail.poll(POLL_S)) is not None:
                waiting.append(record)
                if len(waiting) < MAX_WAITING and not watch.is_due:
                    continue
            if len(waiting) == MAX_WAITING:
                time.sleep(POLL_S)
            for stored, values in watch.take_stored(waiting):
                stream = by_topic[stored.kafka_topic]
                yield Seen(
                    time_text(values["timestamp"]),
                    str(values["device_id"]),
                    values_text(stream, {field.name: values[field.name] for field in stream.fields}),
                    f"{stream.table} {_place_of(stored)}",
                )


def feed_readings(
    settings: Settings, streams: Streams, stop: Event, device_id: str | None = None
) -> Readings:
    """What a browser gets."""
    waiting = _Waiting()
    with ExitStack() as stack:
        for name, stream in streams.items():
            feed = stack.enter_context(open_feed(settings.live, name, device_id, ANSWER_S))
            ended = Event()
            thread = Thread(target=_follow, args=(feed, stream, waiting, ended), daemon=True)
            stack.callback(thread.join, ANSWER_S)
            stack.callback(ended.set)
            thread.start()
        yield from waiting.items(stop)


class _Waiting:
    """What other threads have seen, on its way to the terminal; when it is full, the newest is dropped and counted."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Seen | HlError] = queue.Queue(MAX_WAITING)
        self._lock = Lock()
        self._n_dropped = 0

    def put(self, seen: Seen | HlError) -> None:
        """Never waits."""
        try:
            self._queue.put_nowait(seen)
        except queue.Full:
            with self._lock:
                self._n_dropped += 1

    def items(self, stop: Event) -> Readings:
        """All of it, as it comes."""
        while not stop.is_set():
            try:
                seen = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(seen, HlError):
                raise seen
            yield seen
            with self._lock:
                n_dropped, self._n_dropped = self._n_dropped, 0
            if n_dropped:
                yield Seen("", "", f"{n_dropped} readings were not shown: the terminal is too slow", "-")


def _follow(feed: FeedConnection, stream: Stream, waiting: _Waiting, ended: Event) -> None:
    try:
        while not ended.is_set():
            frame = feed.poll(POLL_S)
            if frame is not None:
                waiting.put(_seen_frame(stream, frame))
    except TransientError as exc:
        waiting.put(exc)


def _seen_frame(stream: Stream, frame: Mapping[str, Any]) -> Seen:
    if frame["type"] == "gap":
        missed = f"{frame['missed']} readings" if frame.get("missed") else "some readings"
        return Seen("", "", f"{missed} were not sent: the feed says so", stream.name)
    place = frame["position"]
    position = f"{stream.name} {place['partition']}/{place['offset']}"
    return Seen(
        time_text(frame["timestamp"]), frame["device_id"], values_text(stream, frame["data"]), position
    )


def _seen_letter(record: LetterRecord) -> Seen:
    position = _place_of(record)
    try:
        letter = DeadLetter.from_headers(record.headers)
    except PoisonRecordError:
        return Seen("", "", f"no dead letter of hl: {raw_text(record.value)}", position)
    what = f"{letter.reason} ({letter.stage}): {letter.detail} | {raw_text(record.value)}"
    device_id = letter.device_id or (letter.mqtt_topic or "").rpartition("/")[2]
    return Seen(time_text(letter.last_failed_at), device_id, what, position)


def _records(
    settings: Settings, kafka_topics: Mapping[str, Stream], stop: Event
) -> Generator[LetterRecord, None, None]:
    with closing(TopicTail(settings.kafka, list(kafka_topics), "hl-tail")) as tail:
        while not stop.is_set():
            record = tail.poll(POLL_S)
            if record is not None:
                yield record


def _place_of(record: LetterRecord) -> str:
    return f"{record.kafka_topic} {record.kafka_partition}/{record.offset}"


def _key_of(record: LetterRecord) -> str:
    return (record.key or b"").decode(errors="replace")


SOURCES: Mapping[str, Callable[[Settings, Streams, Event], Readings]] = {
    "mqtt": mqtt_readings,
    "kafka": kafka_readings,
    "rows": row_readings,
    "feed": feed_readings,
    "dead-letters": dead_letters,
}
