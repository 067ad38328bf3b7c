"""From a client's positions to the live feed: by the frames in memory, by Kafka, or over a gap that it is told of.

A subscription that resumes holds one cursor for each partition. It takes chunk after chunk as its client reads them,
and joins the live feed in the very step in which every cursor has arrived at what is published next.
"""

import asyncio
from collections.abc import Mapping

import structlog

from hl_live.feed.fanout import Fanout, Place
from hl_live.feed.past import Past
from hl_live.feed.ring import Ring
from hl_live.feed.subscription import Subscription
from hl_platform.core.errors import HlError

log = structlog.get_logger()

# Frames that are queued at once; the next ones when the client has read these.
REPLAY_FRAMES = 500
# How often a partition is looked for that the reader has not found yet, or a Kafka that is away.
AGAIN_S = 0.5


class Resume:
    """One subscription on its way to the live feed.

    Args:
        subscription: has not joined yet.
        positions: by partition the next offset that the client wants.
        max_records: of each partition that are read again at most.

    Guarantee: everything from the positions on is replayed, in order for each partition, or a gap names the range.
    """

    def __init__(
        self,
        subscription: Subscription,
        positions: Mapping[int, int],
        fanout: Fanout,
        past: Past,
        max_records: int,
    ) -> None:
        self._subscription = subscription
        self._fanout = fanout
        self._past = past
        self._max_records = max_records
        self._cursors = dict(positions)
        # By partition, which of its logs the cursor is of: how many came before.
        self._logs = {number: self._log_of(number) for number in positions}
        self._read_on = asyncio.Event()
        self._read_on.set()

    def read_on(self) -> None:
        """The client has taken all that was replayed."""
        self._read_on.set()

    async def run(self) -> None:
        """Returns when the subscription has joined."""
        while True:
            await self._read_on.wait()
            behind = self._behind()
            if not behind:
                self._fanout.join(self._subscription)
                return
            try:
                await self._advance(behind[0])
            except HlError as exc:
                # An outage, or what counts as one here: a cluster that refuses us may let us in again.
                log.warning("feed_resume_waits", stream=self._subscription.name, error=str(exc))
                await asyncio.sleep(AGAIN_S)
            if self._subscription.n_past:
                self._read_on.clear()
            # However much there is to replay, the others have their turn in between.
            await asyncio.sleep(0)

    def _behind(self) -> list[int]:
        """The partitions whose cursor is not where the live feed is."""
        live = self._fanout.positions(self._subscription.name)
        for number in live.keys() - self._cursors.keys():
            # One that the client has not heard of is younger than its positions, whenever it is found.
            self._cursors[number], self._logs[number] = 0, self._log_of(number)
        return [
            number
            for number, cursor in self._cursors.items()
            if self._at(number, cursor) != live.get(number) or self._is_replaced(number)
        ]

    def _log_of(self, partition: int) -> int:
        ring = self._fanout.ring(self._place(partition))
        return 0 if ring is None else len(ring.replaced_at)

    def _is_replaced(self, partition: int) -> bool:
        """Whether the cursor is of a log that is no more, wherever the new one ends."""
        return self._logs[partition] != self._log_of(partition)

    def _at(self, partition: int, cursor: int) -> int:
        # Where another replica was ahead of us, the live feed goes on without what the client has.
        if cursor == self._subscription.known_before.get(partition):
            ring = self._fanout.ring(self._place(partition))
            if ring is not None and ring.next_offset <= cursor:
                return ring.next_offset
        return cursor

    def _place(self, partition: int) -> Place:
        return self._subscription.name, partition

    async def _advance(self, partition: int) -> None:
        """Moves one cursor on."""
        cursor, ring = self._cursors[partition], self._fanout.ring(self._place(partition))
        if ring is None:
            await self._look_for(partition)
        elif self._is_replaced(partition):
            self._begin_anew(partition, ring)
        elif cursor > ring.next_offset:
            await self._compare_end(partition)
        elif cursor >= ring.start:
            self._replay_ring(partition, ring)
        elif ring.next_offset - cursor > self._max_records:
            self._skip(partition, ring.next_offset - self._max_records, "too_far")
        else:
            await self._replay_kafka(partition, ring)

    async def _look_for(self, partition: int) -> None:
        if self._fanout.positions(self._subscription.name):
            # Others are there, so that this one is no more.
            self._skip(partition, self._cursors[partition], "replaced")
            del self._cursors[partition]
        else:
            await asyncio.sleep(AGAIN_S)

    def _begin_anew(self, partition: int, ring: Ring) -> None:
        # Not where memory begins: what has left it meanwhile is on Kafka.
        to_offset = min(ring.replaced_at[self._logs[partition] :])
        # Of a log that was cut further on, the client has missed nothing yet.
        if to_offset < self._cursors[partition]:
            self._skip(partition, to_offset, "replaced")
        self._logs[partition] = len(ring.replaced_at)
        self._subscription.known_before.pop(partition, None)

    async def _compare_end(self, partition: int) -> None:
        """The client knows more than we do: another replica is ahead of us, or the topic was made anew."""
        low, high = await self._past.range(self._place(partition))
        if self._is_replaced(partition):
            return
        if self._cursors[partition] <= high:
            self._subscription.known_before[partition] = self._cursors[partition]
        else:
            self._skip(partition, low, "replaced")

    def _replay_ring(self, partition: int, ring: Ring) -> None:
        frames, self._cursors[partition] = ring.read(self._cursors[partition], REPLAY_FRAMES)
        self._subscription.replay(frames, partition)

    async def _replay_kafka(self, partition: int, ring: Ring) -> None:
        cursor = self._cursors[partition]
        # Also what memory has: so the chunk in which memory begins stays the same one while that moves on.
        chunk = await self._past.chunk(self._place(partition), cursor, ring.next_offset)
        if self._is_replaced(partition):
            return
        if chunk.first > cursor:
            self._skip(partition, min(chunk.first, ring.start), "retention")
        elif chunk.next_offset <= cursor:
            # Kafka has not what we have read from it: it was cut.
            self._skip(partition, ring.start, "replaced")
        else:
            frames = [frame for frame in chunk.frames if frame.offset >= cursor]
            self._cursors[partition] = chunk.next_offset
            self._subscription.replay(frames, partition)

    def _skip(self, partition: int, to_offset: int, reason: str) -> None:
        from_offset, self._cursors[partition] = self._cursors[partition], to_offset
        self._subscription.put_gap(partition, from_offset, to_offset, reason, past=True)  # type: ignore[arg-type]
