"""The bridge: MQTT to Kafka, acknowledged to the device's broker only when Kafka has the record.

The path of one message, in this order; a crash between any two steps makes the broker send it again:

1. MQTT delivers it; it counts as received.
2. It is validated and enriched, or found invalid.
3. It is queued for `<kafka_topic>`, or as it is for `<kafka_topic>.dlq`.
4. Kafka's delivery report says that all in-sync replicas have it; or, while Kafka is away, it is synced to the spool.
5. Its PUBACK goes out, after those of all messages before it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from hl_platform.adapters.kafka.producer import SURELY_FITS_BYTES, check_size
from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.adapters.mqtt.properties import trace_of
from hl_platform.adapters.mqtt.session import MqttSession, Token
from hl_platform.core.accounts import StageStats
from hl_platform.core.coverage import Covered, Place
from hl_platform.core.errors import FencedError, PoisonRecordError
from hl_platform.core.readings import Moment, Origin, ReadingDecoder, Source
from hl_platform.core.routing import Router
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.dead_letters import BridgeLetters
from hl_platform.pipeline.outgoing import Outgoing
from hl_platform.pipeline.outlet import Outlet, Receiver
from hl_platform.pipeline.pulse import Pulse

log = structlog.get_logger()

# How long a stop waits for Kafka; what is still on the way then is sent again by MQTT.
FLUSH_S = 5.0
POLL_S = 0.1
# While the producer is full, its reports are waited for.
FULL_TURN_S = 0.01
SAY_AGAIN_AFTER = timedelta(seconds=10)
# MQTT topics that are remembered, at some 420 bytes each: a fleet's devices. A publisher that makes up ever new ones
# must not fill the memory.
MAX_WAYS = 200_000
MAX_KEPT_TOPIC_CHARS = 256


class Way(msgspec.Struct, gc=False):
    """What to make of the messages of an MQTT topic that have the same flags."""

    stream: Stream
    decoder: ReadingDecoder
    origin: Origin
    qos: int
    retained: bool


class Bridge:
    """Carries every message of a session to Kafka.

    Args:
        service: its name, written into every record.
        streams: by name.
        session: where messages come from.
        kafka_answers: whether it did at the start; else the spool takes over at once.
        make_outlet: makes the way to Kafka, which tells the receiver what became of the records.
        rules: which readings are believed.
        stats: counts of this process.
        now: the time, aware.
        pulse: notices a standstill. What the broker had sent before it must not be taken for new afterwards: by
            then a successor may have carried it, and later readings too.

    Guarantee: a message is acknowledged only after Kafka has it, or its dead letter, or the spool has it on disk.
    Readings of one device keep their order. Nothing is dropped but what a stream's policy says.
    """

    def __init__(
        self,
        *,
        service: str,
        streams: Mapping[str, Stream],
        session: MqttSession,
        make_outlet: Callable[[Receiver], Outlet],
        kafka_answers: bool,
        rules: ReadingSettings,
        stats: StageStats,
        now: Callable[[], datetime],
        pulse: Pulse,
    ) -> None:
        self._service = service
        self._router = Router(streams.values())
        max_kept_bytes = min(rules.max_payload_bytes, SURELY_FITS_BYTES)
        self._letters = {
            name: BridgeLetters(stream, service, max_kept_bytes) for name, stream in streams.items()
        }
        self._decoders = {name: ReadingDecoder(stream, rules) for name, stream in streams.items()}
        self._session = session
        self._kafka_answers = kafka_answers
        self._outlet = make_outlet(self)
        self._stats = stats
        self._now = now
        self._pulse = pulse
        self._stop = threading.Event()
        self._last_said: dict[str, datetime] = {}
        self._ways: dict[str, Way] = {}

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            FencedError: this process stood still for so long that it may have a successor.
            HlError: why it cannot go on; nothing unacknowledged is lost.
        """
        try:
            self._outlet.start(kafka_answers=self._kafka_answers)
            self._pulse.start()
            log.info("bridge_started", service=self._service)
            while not self._stop.is_set():
                self._turn()
        finally:
            self._finish()

    def stop(self) -> None:
        """Ends `run` after a flush. Any thread."""
        self._stop.set()

    def _turn(self) -> None:
        if self._outlet.has_room:
            messages = self._session.receive(min(POLL_S, self._outlet.patience_s))
            if messages:
                self._carry(messages)
            self._outlet.work(0)
        else:
            # What comes stays where it is, in the socket and at the broker.
            self._session.keep_alive()
            self._outlet.work(FULL_TURN_S)
        if self._pulse.missed:
            raise FencedError(f"{self._service} stood still for so long that it may have a successor")

    def _finish(self) -> None:
        # From here on messages are not taken any more; those taken before are given time to arrive.
        self._stop.set()
        self._pulse.stop()
        n_left = self._outlet.close(FLUSH_S)
        self._session.stop()
        log.info("bridge_stopped", service=self._service, n_left_to_mqtt=n_left)

    def _carry(self, messages: Sequence[MqttMessage]) -> None:
        received_at = self._now()
        # After `received_at`: a standstill from here on leaves records that are older than what a successor wrote,
        # and the older of two never replaces the newer.
        if self._pulse.missed:
            return
        moment = Moment.of(received_at)
        records: list[Outgoing] = []
        done: list[Token] = []
        for message in messages:
            record = self._make_record(message, moment)
            if record is not None:
                records.append(record)
            elif message.token is not None:
                done.append(message.token)
        for stream, n in Counter([record.stream for record in records]).items():
            self._stats.count(stream, received=n, last_reading_at=received_at)
        self._outlet.submit(records)
        if done:
            self._session.settle(done)

    def _make_record(self, message: MqttMessage, moment: Moment) -> Outgoing | None:
        """None for a message that is to go nowhere."""
        way = self._ways.get(message.mqtt_topic)
        if way is None or way.qos != message.qos or way.retained is not message.retained:
            way = self._new_way(message)
            if way is None:
                return None
        stream = way.stream
        if message.retained and stream.retained == "ignore":
            # Our subscription asks for none; not every broker listens.
            self._stats.count(stream.name, received=1, dropped=1)
            return None
        try:
            device_id, value = way.decoder.encode(message.payload, moment, way.origin)
            # Nearly no message has any.
            headers = trace_of(message.properties) if message.properties else None
            if len(value) > SURELY_FITS_BYTES:
                check_size(device_id, value, headers)
        except PoisonRecordError as fault:
            return self._reject(stream, message, fault, moment.received_at)
        return Outgoing(stream.name, False, stream.kafka_topic, device_id, value, headers, message.token)  # noqa: FBT003

    def _new_way(self, message: MqttMessage) -> Way | None:
        stream = self._router.stream_of(message.mqtt_topic)
        if stream is None:
            if not self._router.is_status(message.mqtt_topic):
                # Cannot come through our filters; a broker that sends it all the same must not stop us.
                log.error("message_of_no_stream", mqtt_topic=message.mqtt_topic)
            return None
        decoder = self._decoders[stream.name]
        source = Source(message.mqtt_topic, message.qos, message.retained, self._service)
        way = Way(stream, decoder, decoder.origin_of(source), message.qos, message.retained)
        if len(self._ways) >= MAX_WAYS:
            self._ways.clear()
        if len(message.mqtt_topic) <= MAX_KEPT_TOPIC_CHARS:
            self._ways[message.mqtt_topic] = way
        return way

    def _reject(
        self, stream: Stream, message: MqttMessage, fault: PoisonRecordError, received_at: datetime
    ) -> Outgoing:
        self._say_rejected(message.mqtt_topic, fault, received_at)
        letter = self._letters[stream.name].make(fault, message, received_at)
        return Outgoing(
            stream.name,
            True,  # noqa: FBT003
            stream.dead_letter_topic,
            # The whole topic: an invalid payload may not even name its device.
            message.mqtt_topic,
            letter.value,
            letter.headers,
            message.token,
        )

    def _say_rejected(self, mqtt_topic: str, fault: PoisonRecordError, at: datetime) -> None:
        # Once in a while for each reason: a device gone mad must not fill the disk through the log.
        if at - self._last_said.get(fault.reason, datetime.min.replace(tzinfo=UTC)) >= SAY_AGAIN_AFTER:
            self._last_said[fault.reason] = at
            log.warning(
                "reading_rejected", mqtt_topic=mqtt_topic, reason=fault.reason, detail=fault.detail[:200]
            )

    def on_delivered(self, place: Place, covered: Covered) -> None:
        """See Receiver."""
        # Counted with where they end, so that a heartbeat finds both or neither.
        self._stats.cover(place, covered)

    def on_safe(self, tokens: Sequence[Token]) -> None:
        """See Receiver."""
        self._session.settle(tokens)

    def on_unheard(self, record: Outgoing) -> None:
        """See Receiver."""
        if record.token is None:
            # At QoS 0 nobody waits for it, and nothing on the way has room for it.
            self._stats.count(record.stream, dropped=1)
        else:
            # It comes again, and is received again.
            self._stats.count(record.stream, duplicates=1)

    def is_awaited(self, token: Token | None) -> bool:
        """See Receiver."""
        return token is not None and self._session.is_awaited(token)
