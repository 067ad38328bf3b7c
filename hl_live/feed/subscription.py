"""What one client wants of one stream, and what waits for it."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from hl_live.feed.frames import Batch, Fields, Frame
from hl_live.feed.messages import GapMessage, GapReason, Mode, PositionsMessage, encode_message
from hl_platform.core.streams import Stream


class Choice(NamedTuple):
    """What a client asked for of a stream.

    Args:
        device_ids: only these; None for all.
        fields: indices of the fields; None for all.
        max_hz: readings a second of each device; None for no bound.
    """

    stream: Stream
    device_ids: frozenset[str] | None = None
    fields: Fields = None
    mode: Mode = "all"
    max_hz: float | None = None


class Outgoing(NamedTuple):
    """A message to send.

    Args:
        reached: (partition, offset): with this message the client has all of the partition before the offset.
        frame: of a live reading, which is to be settled when it has been sent.
    """

    text: str
    stream: str = ""
    reached: tuple[tuple[int, int], ...] = ()
    frame: Frame | None = None


class Subscription:
    """One stream of one client.

    Args:
        choice: what it wants.
        max_messages: how many live readings may wait before only the latest of each device is kept.
        on_ready: called when there is something to take.
        on_gone: called with frames that will never be sent.
        push: sends live readings at once, if nothing of this client waits and its socket has room.
        snapshots: whether it is shown newest readings that the database tells.

    Guarantee: hands out every reading that it was offered and that was asked for, in order, or, in mode `all`, a
    count of the missing ones before the reading that follows the first hole. Holds at most `max_messages`
    readings, or two of each device where that is more, beside a snapshot and one chunk of the past.
    """

    def __init__(
        self,
        choice: Choice,
        max_messages: int,
        on_ready: Callable[[], None],
        on_gone: Callable[[list[Frame]], None],
        push: Callable[[Batch, Fields], bool],
        *,
        snapshots: bool,
    ) -> None:
        self.choice = choice
        self.snapshots = snapshots
        self.name = choice.stream.name
        self.conflates = choice.mode == "latest" or choice.max_hz is not None
        # Before its offsets, readings of a partition are known to the client: another replica was ahead of us.
        self.known_before: dict[int, int] = {}
        self.n_missed = 0
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._push = push
        self._max_messages = self._limit = max_messages
        self._past: deque[Outgoing] = deque()
        self._queue: deque[Frame | Outgoing] = deque()
        # With whether it is live, and so to be settled.
        self._newest: dict[str, tuple[Frame, bool]] = {}
        self._missed = 0
        self._stored: dict[str, Frame] = {}
        self._due_at = 0.0
        self._positions: Callable[[], Mapping[int, int]] | None = None

    @property
    def n_waiting(self) -> int:
        """How many messages wait."""
        return len(self._past) + len(self._queue) + len(self._newest)

    @property
    def n_past(self) -> int:
        """How many of them are of the past."""
        return len(self._past)

    def wants(self, frame: Frame) -> bool:
        """Whether it was asked for; also of those that the client has already. A probe's device must be named."""
        if self.choice.device_ids is None:
            return not frame.reading.is_probe
        return frame.reading.device_id in self.choice.device_ids

    def show(self, frames: Iterable[Frame]) -> None:
        """Queues a snapshot."""
        for frame in frames:
            if not self.wants(frame):
                continue
            if frame.position is None:
                # The sink may be ahead of us: then Kafka brings the same reading to us, too.
                self._stored[frame.reading.device_id] = frame
            self._past.append(Outgoing(frame.text(self.choice.fields, snapshot=True), self.name))
        self._on_ready()

    def replay(self, frames: Iterable[Frame], partition: int) -> None:
        """Queues what the client has missed of a partition."""
        wanted = [frame for frame in frames if self.wants(frame)]
        if self.conflates:
            for frame in wanted:
                self._put_newest(frame, live=False)
        else:
            self._past.extend(
                Outgoing(frame.text(self.choice.fields), self.name, ((partition, frame.offset + 1),))
                for frame in wanted
            )
        self._on_ready()

    def put_gap(
        self, partition: int, from_offset: int, to_offset: int, reason: GapReason, *, past: bool
    ) -> None:
        """Queues that a range of a partition is missing."""
        gap = GapMessage(
            stream=self.name, partition=partition, from_offset=from_offset, to_offset=to_offset, reason=reason
        )
        item = Outgoing(encode_message(gap), self.name, ((partition, to_offset),))
        # What is older than the gap comes before it, whether it is due or not.
        older, self._newest = self._newest, {}
        if past:
            # Nothing is live before it has joined.
            self._past.extend(self._out(frame, live=False) for frame, _ in older.values())
            self._past.append(item)
        else:
            self.known_before.pop(partition, None)
            self._queue.extend(
                frame if is_live else self._out(frame, live=False) for frame, is_live in older.values()
            )
            self._queue.append(item)
        self._on_ready()

    def put_positions(self, positions: Callable[[], Mapping[int, int]]) -> None:
        """Has the client told how far it is, as soon as nothing waits."""
        self._positions = positions
        self._on_ready()

    def offer(self, batch: Batch) -> None:
        """Pushes live readings that were asked for, or queues them."""
        if self._stored or self.known_before:
            batch = Batch([frame for frame in batch.frames if not self._is_known(frame)])
            if not batch.frames:
                return
        waits = self._queue or self._past or self._newest or self._missed
        if not waits and self.choice.max_hz is None and self._push(batch, self.choice.fields):
            return
        for frame in batch.frames:
            self._put(frame)
        self._on_ready()

    def due_at(self) -> float | None:
        """When there is something to take, by the clock of `take`: 0 for now, None for nothing."""
        if self._past or self._queue or (self._positions is not None and not self._newest):
            return 0.0
        return self._due_at if self._newest else None

    def take(self, limit: int, now: float) -> list[Outgoing]:
        """Up to about so many messages that can be sent now.

        Args:
            limit: of messages.
            now: seconds of any steady clock.
        """
        taken = [self._past.popleft() for _ in range(min(limit, len(self._past)))]
        if self._past:
            return taken
        if self._missed:
            taken.append(
                Outgoing(encode_message(GapMessage(stream=self.name, missed=self._missed)), self.name)
            )
            self._missed = 0
        for _ in range(min(limit, len(self._queue))):
            item = self._queue.popleft()
            taken.append(self._out(item) if isinstance(item, Frame) else item)
        if not self._queue:
            self._limit = self._max_messages
        if self._newest and not self._queue and now >= self._due_at:
            taken += self._take_newest(now)
        if self._positions is not None and not self._queue and not self._newest:
            taken.append(self._take_positions(self._positions()))
        return taken

    def empty(self) -> None:
        """Forgets all that waits, for a client that leaves."""
        live = [item for item in self._queue if isinstance(item, Frame)]
        live += [frame for frame, is_live in self._newest.values() if is_live]
        self._past.clear()
        self._queue.clear()
        self._newest.clear()
        self._stored.clear()
        self._on_gone(live)

    def _out(self, frame: Frame, *, live: bool = True) -> Outgoing:
        assert frame.position is not None  # noqa: S101 - only those of Kafka are live
        reached = ((frame.position.partition, frame.offset + 1),)
        return Outgoing(frame.text(self.choice.fields), self.name, reached, frame if live else None)

    def _put(self, frame: Frame) -> None:
        frame.n_pending += 1
        if self.conflates:
            self._put_newest(frame, live=True)
        else:
            self._queue.append(frame)
            if len(self._queue) > self._limit:
                self._conflate()

    def _is_known(self, frame: Frame) -> bool:
        """Whether the client has it: the snapshot showed it, or another replica had told it."""
        return self._is_shown(frame) or self._is_before(frame)

    def _is_shown(self, frame: Frame) -> bool:
        reading = frame.reading
        shown = self._stored.get(reading.device_id)
        if shown is None or reading.timestamp < shown.reading.timestamp:
            return False
        del self._stored[reading.device_id]
        return (reading.timestamp, reading.values) == (shown.reading.timestamp, shown.reading.values)

    def _is_before(self, frame: Frame) -> bool:
        partition = -1 if frame.position is None else frame.position.partition
        return frame.offset < self.known_before.get(partition, 0)

    def _conflate(self) -> None:
        """Keeps of each device the latest reading; counts the others as missed."""
        seen: set[str] = set()
        kept: deque[Frame | Outgoing] = deque()
        gone: list[Frame] = []
        for item in reversed(self._queue):
            if not isinstance(item, Frame):
                kept.appendleft(item)
            elif item.reading.device_id in seen:
                gone.append(item)
            else:
                seen.add(item.reading.device_id)
                kept.appendleft(item)
        self._queue = kept
        # So that each reading is looked at a bounded number of times, however many devices there are.
        self._limit = max(self._max_messages, 2 * len(kept))
        self._missed += len(gone)
        self.n_missed += len(gone)
        self._on_gone(gone)

    def _put_newest(self, frame: Frame, *, live: bool) -> None:
        # Taken out first, so that the order stays that of the offsets.
        older = self._newest.pop(frame.reading.device_id, None)
        self._newest[frame.reading.device_id] = frame, live
        if older is not None and older[1]:
            self._on_gone([older[0]])

    def _take_newest(self, now: float) -> list[Outgoing]:
        taken = [self._out(frame, live=live) for frame, live in self._newest.values()]
        self._newest.clear()
        if self.choice.max_hz is not None:
            self._due_at = now + 1 / self.choice.max_hz
        return taken

    def _take_positions(self, positions: Mapping[int, int]) -> Outgoing:
        self._positions = None
        reached = {
            number: max(offset, self.known_before.get(number, 0)) for number, offset in positions.items()
        }
        text = encode_message(PositionsMessage(self.name, reached))
        return Outgoing(text, self.name, tuple(reached.items()))
