"""How many records each consumer group has still to read."""

from collections.abc import Iterable, Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from hl_platform.adapters.kafka.config import admin_client
from hl_platform.adapters.kafka.errors import translate
from hl_platform.core.settings import KafkaSettings
from hl_platform.core.streams import Stream

REQUEST_TIMEOUT_S = 3.0

Place = tuple[str, int]


class LagReader:
    """Compares where consumer groups are with where the Kafka topics end. Keeps its connection between calls.

    Args:
        kafka: the cluster.
        streams: whose topics are looked at.
    """

    def __init__(self, kafka: KafkaSettings, streams: Iterable[Stream]) -> None:
        self._admin = admin_client(kafka, "hl-lag")
        self._streams = list(streams)

    def read(self, next_offsets: Mapping[tuple[str, str, int], int]) -> dict[str, int]:
        """Records between a group's position and the end, by consumer group.

        Args:
            next_offsets: by (consumer group, Kafka topic, Kafka partition), of the groups that keep their position
                outside Kafka. Those of the live feed are read from Kafka.

        Raises:
            TransientError: the cluster cannot be reached now.
        """
        try:
            positions = {**self._positions_in_kafka(), **next_offsets}
            ends = self._ends({(topic, partition) for _, topic, partition in positions})
        except KafkaException as exc:
            raise translate(exc) from exc
        lag: dict[str, int] = {}
        for (group, topic, partition), next_offset in positions.items():
            end = ends.get((topic, partition), next_offset)
            lag[group] = lag.get(group, 0) + max(0, end - next_offset)
        return lag

    def _positions_in_kafka(self) -> dict[tuple[str, str, int], int]:
        prefixes = {f"{stream.name}-ws": stream.kafka_topic for stream in self._streams}
        listing = self._admin.list_consumer_groups(request_timeout=REQUEST_TIMEOUT_S).result()
        positions = {}
        for group in (found.group_id for found in listing.valid):
            # An instance that is one of several adds its name.
            topic = next((topic for prefix, topic in prefixes.items() if group.startswith(prefix)), None)
            if topic is None:
                continue
            request = [ConsumerGroupTopicPartitions(group)]
            answer = self._admin.list_consumer_group_offsets(request, request_timeout=REQUEST_TIMEOUT_S)
            for place in answer[group].result().topic_partitions:
                if place.topic == topic and place.offset >= 0:
                    positions[(group, topic, place.partition)] = place.offset
        return positions

    def _ends(self, places: set[Place]) -> dict[Place, int]:
        if not places:
            return {}
        latest = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
        answers = self._admin.list_offsets(latest, request_timeout=REQUEST_TIMEOUT_S)
        return {(place.topic, place.partition): future.result().offset for place, future in answers.items()}


def read_lag(
    kafka: KafkaSettings, streams: Iterable[Stream], next_offsets: Mapping[tuple[str, str, int], int]
) -> dict[str, int]:
    """`LagReader.read`, once."""
    return LagReader(kafka, streams).read(next_offsets)
