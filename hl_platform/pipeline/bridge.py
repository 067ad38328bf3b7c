"""The bridge: MQTT to Kafka, acknowledged to the device's broker only when Kafka has the record.

The path of one message, in this order; a crash between any two steps makes the broker send it again:

1. MQTT delivers it; it counts as received.
2. It is validated and enriched, or found invalid.
3. It is queued for `<kafka_topic>`, or as it is for `<kafka_topic>.dlq`.
4. Kafka's delivery report says that all in-sync replicas have it.
5. Its PUBACK goes out, after those of all messages before it.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from hl_platform.adapters.kafka.producer import Delivered, Delivery, KafkaProducer
from hl_platform.adapters.mqtt.session import MqttMessage, MqttSession
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import HlError, PoisonRecordError
from hl_platform.core.readings import ReadingDecoder, Source, device_of_topic
from hl_platform.core.routing import Router
from hl_platform.core.settings import ReadingSettings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.dead_letters import make_dead_letter

log = structlog.get_logger()

# How long a stop waits for Kafka; what is still on the way then is sent again by MQTT.
FLUSH_S = 5.0
POLL_S = 0.1
SAY_AGAIN_AFTER = timedelta(seconds=10)


class Bridge:
    """Carries every message of a session to Kafka.

    Args:
        service: its name, written into every record.
        streams: by name.
        session: where messages come from.
        producer: where they go.
        rules: which readings are believed.
        stats: counts of this process.
        now: the time, aware.

    Guarantee: a message is acknowledged only after Kafka has it, or its dead letter. Readings of one device
    keep their order. Nothing is dropped.
    """

    def __init__(
        self,
        *,
        service: str,
        streams: Mapping[str, Stream],
        session: MqttSession,
        producer: KafkaProducer,
        rules: ReadingSettings,
        stats: StageStats,
        now: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._router = Router(streams.values())
        self._decoders = {name: ReadingDecoder(stream, rules) for name, stream in streams.items()}
        self._session = session
        self._producer = producer
        self._stats = stats
        self._now = now
        self._stop = threading.Event()
        self._failure: HlError | None = None
        self._last_said: dict[str, datetime] = {}

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            HlError: why it cannot go on; nothing unacknowledged is lost.
        """
        self._session.start(self._on_message)
        log.info("bridge_started", service=self._service)
        try:
            while not self._stop.is_set():
                self._producer.poll(POLL_S)
                self._session.check()
                if self._failure is not None:
                    raise self._failure
        finally:
            self._finish()

    def stop(self) -> None:
        """Ends `run` after a flush. Any thread."""
        self._stop.set()

    def _finish(self) -> None:
        # From here on messages are not taken any more; those taken before are given time to arrive.
        self._stop.set()
        n_left = self._producer.close(FLUSH_S)
        self._session.stop()
        log.info("bridge_stopped", service=self._service, n_left_to_mqtt=n_left)

    def _on_message(self, message: MqttMessage) -> None:
        if self._stop.is_set():
            return
        stream = self._router.stream_of(message.mqtt_topic)
        if stream is None:
            # Cannot come through our filters; a broker that sends it all the same must not stop us.
            log.error("message_of_no_stream", mqtt_topic=message.mqtt_topic)
            self._settle(message)
            return
        received_at = self._now()
        self._stats.count(stream.name, received=1, last_reading_at=received_at)
        source = Source(message.mqtt_topic, message.qos, message.retained, self._service)
        try:
            device_id, value = self._decoders[stream.name].encode_record(message.payload, received_at, source)
            self._producer.send(stream.kafka_topic, device_id, value, self._on_forwarded(stream, message))
        except PoisonRecordError as fault:
            self._reject(stream, message, fault, received_at)

    def _reject(
        self, stream: Stream, message: MqttMessage, fault: PoisonRecordError, received_at: datetime
    ) -> None:
        self._say_rejected(message.mqtt_topic, fault, received_at)
        letter = make_dead_letter(
            stream,
            "bridge",
            fault,
            message.payload,
            received_at,
            device_id=device_of_topic(message.mqtt_topic),
            mqtt_topic=message.mqtt_topic,
            qos=message.qos,
            retained=message.retained,
            received_at=received_at,
            bridge=self._service,
        )
        self._producer.send(
            stream.dead_letter_topic,
            # The whole topic: an invalid payload may not even name its device.
            message.mqtt_topic,
            letter.value,
            self._on_dead_lettered(stream, message),
            letter.headers,
        )

    def _say_rejected(self, mqtt_topic: str, fault: PoisonRecordError, at: datetime) -> None:
        # Once in a while for each reason: a device gone mad must not fill the disk through the log.
        if at - self._last_said.get(fault.reason, datetime.min.replace(tzinfo=UTC)) >= SAY_AGAIN_AFTER:
            self._last_said[fault.reason] = at
            log.warning(
                "reading_rejected", mqtt_topic=mqtt_topic, reason=fault.reason, detail=fault.detail[:200]
            )

    def _on_forwarded(self, stream: Stream, message: MqttMessage) -> Delivered:
        def delivered(delivery: Delivery) -> None:
            if self._arrived(delivery.error):
                self._stats.count(stream.name, forwarded=1)
                self._settle(message)

        return delivered

    def _on_dead_lettered(self, stream: Stream, message: MqttMessage) -> Delivered:
        def delivered(delivery: Delivery) -> None:
            if self._arrived(delivery.error):
                self._stats.count(stream.name, dead_lettered=1)
                self._settle(message)

        return delivered

    def _arrived(self, error: HlError | None) -> bool:
        if error is not None:
            # Not acknowledged, so MQTT sends it again to whoever comes after this process.
            log.error("kafka_refused_record", error=str(error))
            self._failure = error
        return error is None

    def _settle(self, message: MqttMessage) -> None:
        if message.token is not None:
            self._session.settle(message.token)
