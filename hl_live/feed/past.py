"""Ranges of Kafka partitions for clients that come back, each read once for all of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hl_live.feed.fanout import Place
from hl_live.feed.frames import Frame

# Records that are read at once; chunks begin at its multiples, so that clients at different offsets share them.
CHUNK_RECORDS = 500
# Two are enough to read from one cluster as fast as we can decode.
MAX_READERS = 2
MAX_KEPT_BYTES = 32 * 2**20


class Chunk(NamedTuple):
    """A range of a partition.

    Args:
        first: the first offset that Kafka had of what was asked for.
        next_offset: behind the last one.
        frames: by offset.
    """

    first: int
    next_offset: int
    frames: list[Frame]


ReadRange = Callable[[Place, int, int], Awaitable[Chunk]]
FindRange = Callable[[Place], Awaitable[tuple[int, int]]]


class Past:
    """What lies on Kafka before the frames in memory.

    Args:
        read: reads [first, end) of a partition; end is never behind what has been published.
        find_range: the first offset that Kafka has, and its end.

    Guarantee: any number of clients that want the same range at about the same time cost one reading of it. At
    most MAX_READERS read at a time, and about MAX_KEPT_BYTES are kept.
    """

    def __init__(self, read: ReadRange, find_range: FindRange) -> None:
        self._read = read
        self._find_range = find_range
        self._readers = asyncio.Semaphore(MAX_READERS)
        self._kept: OrderedDict[tuple[Place, int], Chunk] = OrderedDict()
        self._under_way: dict[object, asyncio.Task[object]] = {}
        self._generation = 0
        self.n_bytes = 0

    async def chunk(self, place: Place, offset: int, end: int) -> Chunk:
        """What there is from an offset on, up to the end of its chunk or `end`.

        Raises:
            TransientError: Kafka cannot serve us now.
        """
        key = (place, offset // CHUNK_RECORDS)
        kept = self._kept.get(key)
        if kept is not None and (offset < kept.next_offset or kept.next_offset >= end):
            self._kept.move_to_end(key)
            return kept
        first = key[1] * CHUNK_RECORDS
        end = min(first + CHUNK_RECORDS, end)
        # A reading that ends earlier would look like the end of the log.
        chunk = await self._shared((key, end), lambda: self._load(key, first, end))
        assert isinstance(chunk, Chunk)  # noqa: S101 - what _load makes
        return chunk

    async def range(self, place: Place) -> tuple[int, int]:
        """The first offset that Kafka has of a partition, and its end.

        Raises:
            TransientError: Kafka cannot serve us now.
        """
        return await self._shared(place, lambda: self._find(place))  # type: ignore[return-value]

    def forget(self) -> None:
        """Drops what is kept, as where a Kafka topic was made anew."""
        self._kept.clear()
        self.n_bytes = 0
        self._generation += 1

    async def close(self) -> None:
        """Waits for nobody."""
        for task in self._under_way.values():
            task.cancel()

    async def _shared(self, key: object, work: Callable[[], Awaitable[object]]) -> object:
        # What was begun before a topic was made anew is of the old one.
        of_log = (self._generation, key)
        task = self._under_way.get(of_log)
        if task is None:
            task = asyncio.ensure_future(work())
            self._under_way[of_log] = task
            task.add_done_callback(lambda _: self._under_way.pop(of_log, None))
        # One that leaves must not take it from the others.
        return await asyncio.shield(task)

    async def _load(self, key: tuple[Place, int], first: int, end: int) -> Chunk:
        async with self._readers:
            generation = self._generation
            chunk = await self._read(key[0], first, end)
        if generation == self._generation:
            self._keep(key, chunk)
        return chunk

    async def _find(self, place: Place) -> tuple[int, int]:
        async with self._readers:
            return await self._find_range(place)

    def _keep(self, key: tuple[Place, int], chunk: Chunk) -> None:
        if (older := self._kept.pop(key, None)) is not None:
            self.n_bytes -= _bytes_of(older)
        self._kept[key] = chunk
        self.n_bytes += _bytes_of(chunk)
        while self.n_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            self.n_bytes -= _bytes_of(self._kept.popitem(last=False)[1])


def _bytes_of(chunk: Chunk) -> int:
    return sum(frame.size_bytes for frame in chunk.frames)
