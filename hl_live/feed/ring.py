"""The newest frames of one Kafka partition, for clients that come back."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from hl_live.feed.frames import Frame

# Dropped in one go, as cutting off a list's head moves the rest.
TRIM_AT = 256
_offset_of = attrgetter("offset")


class Ring:
    """Frames by offset, bounded by count and bytes.

    Args:
        start: the next offset of the partition, as far as is known.
        max_frames, max_bytes: what it holds at most.

    Guarantee: holds every frame from `start` on, before `next_offset`. `replaced_at` has each offset at which
    the partition has begun again: what was known of it from there on is of another log.
    """

    def __init__(self, start: int, max_frames: int, max_bytes: int) -> None:
        self.start = start
        self.next_offset = start
        self.replaced_at: list[int] = []
        self.n_bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: list[Frame] = []
        self._head = 0

    def __len__(self) -> int:
        return len(self._frames) - self._head

    def append(self, frames: Sequence[Frame], next_offset: int) -> None:
        """Takes the frames that follow, and how far the partition has been read with them."""
        self._frames.extend(frames)
        self.n_bytes += sum(frame.size_bytes for frame in frames)
        self.next_offset = next_offset
        while len(self) > self._max_frames or self.n_bytes > self._max_bytes:
            self._drop_oldest()
        if self._head >= TRIM_AT and self._head * 8 >= len(self._frames):
            del self._frames[: self._head]
            self._head = 0

    def begin_at(self, offset: int) -> None:
        """Forgets all: the partition goes on somewhere else."""
        if offset < self.next_offset:
            self.replaced_at.append(offset)
        self._frames.clear()
        self._head = self.n_bytes = 0
        self.start = self.next_offset = offset

    def read(self, offset: int, limit: int) -> tuple[list[Frame], int]:
        """Up to `limit` frames from an offset on that is not before `start`, and the offset to go on with."""
        index = bisect_left(self._frames, offset, lo=self._head, key=_offset_of)
        frames = self._frames[index : index + limit]
        at_end = index + len(frames) == len(self._frames)
        return frames, self.next_offset if at_end else frames[-1].offset + 1

    def _drop_oldest(self) -> None:
        frame = self._frames[self._head]
        # Its place is kept until the head is cut off, its text need not be.
        self._head += 1
        self.n_bytes -= frame.size_bytes
        self.start = frame.offset + 1
