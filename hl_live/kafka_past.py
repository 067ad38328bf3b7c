"""What the feed's past is read from: Kafka, in threads, by a few connections that are kept."""

from hl_live.feed.frames import Decoders, decode
from hl_live.feed.past import Chunk
from hl_live.threads import in_thread
from hl_platform.adapters.kafka.feed_reader import Place as KafkaPlace
from hl_platform.adapters.kafka.range_reader import RangeReader
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import KafkaSettings


class KafkaPast:
    """Ranges of the streams' partitions.

    Args:
        kafka: where the cluster is.
        client_id: shown in the cluster's logs.
        topics: Kafka topic by stream.
        decoders: by Kafka topic.
    """

    def __init__(
        self, kafka: KafkaSettings, client_id: str, topics: dict[str, str], decoders: Decoders
    ) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._topics = topics
        self._decoders = decoders
        self._free: list[RangeReader] = []
        self._closed = False

    async def read(self, place: tuple[str, int], first: int, end: int) -> Chunk:
        """The frames of [first, end) of a stream's partition.

        Raises:
            TransientError: Kafka cannot serve us now.
        """
        return await in_thread(lambda: self._read(self._place_of(place), first, end))

    async def find_range(self, place: tuple[str, int]) -> tuple[int, int]:
        """The first offset that Kafka has of a stream's partition, and its end.

        Raises:
            TransientError: Kafka cannot serve us now.
        """
        return await in_thread(lambda: self._find_range(self._place_of(place)))

    def close(self) -> None:
        """Ends the connections that are not in use; the others end with their work."""
        self._closed = True
        while self._free:
            self._free.pop().close()

    def _place_of(self, place: tuple[str, int]) -> KafkaPlace:
        return self._topics[place[0]], place[1]

    def _read(self, place: KafkaPlace, first: int, end: int) -> Chunk:
        reader = self._take()
        try:
            found = reader.read(place, first, end)
        finally:
            self._give_back(reader)
        frames = [frame for span in decode(self._decoders, found.records).spans for frame in span.frames]
        return Chunk(found.first, found.next_offset, frames)

    def _find_range(self, place: KafkaPlace) -> tuple[int, int]:
        reader = self._take()
        try:
            return reader.range(place)
        finally:
            self._give_back(reader)

    def _take(self) -> RangeReader:
        if self._closed:
            raise TransientError("The service is ending.")
        try:
            # One operation, so that two threads never share one.
            return self._free.pop()
        except IndexError:
            return RangeReader(self._kafka, self._client_id)

    def _give_back(self, reader: RangeReader) -> None:
        if self._closed:
            reader.close()
        else:
            self._free.append(reader)
