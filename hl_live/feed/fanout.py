"""Who gets which frames. Pure: belongs to the event loop's thread, and never waits."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from hl_live.feed.frames import Batch, Frame, Span
from hl_live.feed.messages import GapReason
from hl_live.feed.ring import Ring
from hl_live.feed.subscription import Subscription
from hl_live.latest import LatestReadings

Place = tuple[str, int]

# Readings that are pushed to a client with one write: what its socket may have to hold beyond its bound.
PUSH_AT_ONCE = 100


class RingSize(NamedTuple):
    """How much is kept of each Kafka partition for clients that come back."""

    max_frames: int = 10_000
    max_bytes: int = 8 * 2**20


class Fanout:
    """Everything that is live: newest readings, recent frames, and the subscriptions that get new ones.

    Args:
        streams: names of all.
        on_delay: called with milliseconds from a live reading's own time until its frame was sent to the
            last client, or was ready where there is none.
        ring: how much is kept of each partition.
        starts: by (stream, partition), where the reading began; grows as partitions are found.
        now: Unix time in seconds.
        on_replaced: called where a partition's offsets begin anew.

    Guarantee: a subscription that has joined gets every frame that it asked for in order, or is told of a gap.
    Joining happens between two frames, so that what it was shown before and what it gets adjoin. Publishing never
    waits for a client.
    """

    def __init__(
        self,
        streams: Collection[str],
        on_delay: Callable[[float], None],
        *,
        ring: RingSize = RingSize(),  # noqa: B008 - immutable
        starts: Callable[[], Mapping[Place, int]] = dict,
        now: Callable[[], float] = time.time,
        on_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self.latest = {name: LatestReadings() for name in streams}
        # Streams of which `latest` holds every device.
        self.complete: set[str] = set()
        # Of subscriptions that have ended.
        self.n_missed = 0
        self._on_delay = on_delay
        self._now = now
        self._size = ring
        self._starts = starts
        self._on_replaced = on_replaced
        self._rings: dict[Place, Ring] = {}
        # Dicts for their order: who came first gets it first.
        self._of_all: dict[str, dict[Subscription, None]] = {}
        self._of_device: dict[tuple[str, str], dict[Subscription, None]] = {}

    @property
    def n_joined(self) -> int:
        """How many subscriptions get new frames."""
        return sum(len(self._joined(stream)) for stream in self.latest)

    def ring(self, place: Place) -> Ring | None:
        """The recent frames of a partition; None while nothing is known of it."""
        if place not in self._rings:
            self._find_partitions()
        return self._rings.get(place)

    def positions(self, stream: str) -> dict[int, int]:
        """By partition of a stream, the next offset that will be published."""
        self._find_partitions()
        return {number: ring.next_offset for (name, number), ring in self._rings.items() if name == stream}

    def join(self, subscription: Subscription) -> None:
        """Begins to queue new frames for a subscription."""
        for group in self._groups_of(subscription, make=True):
            group[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """Forgets a subscription and what waits for it. Harmless when it has left already."""
        name, device_ids = subscription.name, subscription.choice.device_ids
        for group in self._groups_of(subscription, make=False):
            group.pop(subscription, None)
        if not self._of_all.get(name, True):
            del self._of_all[name]
        for device_id in device_ids or ():
            if not self._of_device.get((name, device_id), True):
                del self._of_device[name, device_id]
        subscription.empty()

    def publish(self, spans: Iterable[Span]) -> None:
        """Keeps frames, and pushes them to everyone who wants them, or queues them."""
        for span in spans:
            self._go_on(span)
            for first in range(0, len(span.frames), PUSH_AT_ONCE):
                self._offer(span.stream, span.frames[first : first + PUSH_AT_ONCE])

    def put_stored(self, stream: str, frames: Iterable[Frame]) -> None:
        """Takes newest readings from the database; those that are news go to everyone who wants snapshots of them."""
        taken = self.latest[stream].put_stored(frames)
        if taken:
            for subscription in self._joined(stream):
                if subscription.snapshots:
                    subscription.show(taken)

    def tell_positions(self) -> None:
        """Has every subscription told how far it is."""
        for stream in self.latest:
            self._tell_positions(stream)

    def settle(self, frames: Iterable[Frame], *, sent: bool) -> None:
        """Notes that one subscription has been sent these frames, or will never be."""
        now = self._now()
        for frame in frames:
            if sent:
                frame.sent_at = now
            frame.n_pending -= 1
            if not frame.n_pending:
                frame.trim()
                if frame.sent_at:
                    self._measure(frame)

    def drop(self, frames: list[Frame]) -> None:
        """Settles frames that one subscription will never be sent."""
        self.settle(frames, sent=False)

    def _offer(self, stream: str, frames: list[Frame]) -> None:
        # A probe is only for who names its device.
        shown = Batch([frame for frame in frames if not frame.reading.is_probe])
        for frame in shown.frames:
            self.latest[stream].put_new(frame)
        if shown.frames:
            for subscription in self._of_all.get(stream, ()):
                subscription.offer(shown)
        chosen: dict[Subscription, list[Frame]] = {}
        for frame in frames:
            for subscription in self._of_device.get((stream, frame.reading.device_id), ()):
                chosen.setdefault(subscription, []).append(frame)
        for subscription, wanted in chosen.items():
            subscription.offer(Batch(wanted))
        for frame in frames:
            if not frame.n_pending:
                frame.trim()
                frame.sent_at = self._now()
                self._measure(frame)

    def _tell_positions(self, stream: str) -> None:
        for subscription in self._joined(stream):
            subscription.put_positions(lambda: self.positions(stream))

    def _joined(self, stream: str) -> list[Subscription]:
        groups = [self._of_all.get(stream, {})]
        groups += [group for (name, _), group in self._of_device.items() if name == stream]
        return list(dict.fromkeys(subscription for group in groups for subscription in group))

    def _groups_of(self, subscription: Subscription, *, make: bool) -> list[dict[Subscription, None]]:
        name, device_ids = subscription.name, subscription.choice.device_ids
        if device_ids is None:
            return [self._of_all.setdefault(name, {}) if make else self._of_all.get(name, {})]
        if make:
            return [self._of_device.setdefault((name, device_id), {}) for device_id in device_ids]
        return [self._of_device.get((name, device_id), {}) for device_id in device_ids]

    def _find_partitions(self) -> None:
        for place, start in self._starts().items():
            if place not in self._rings:
                self._rings[place] = Ring(start, *self._size)
                # Whoever subscribed before could not be told where this one begins.
                self._tell_positions(place[0])

    def _go_on(self, span: Span) -> None:
        """Puts a span behind what its partition has; where it does not adjoin, everyone is told."""
        place = (span.stream, span.partition)
        ring = self.ring(place)
        if ring is None:
            ring = self._rings[place] = Ring(span.first, *self._size)
        if span.first != ring.next_offset:
            reason: GapReason = "skipped"
            if span.first < ring.next_offset:
                reason = "replaced"
                self._on_replaced()
            for subscription in self._joined(span.stream):
                subscription.put_gap(span.partition, ring.next_offset, span.first, reason, past=False)
            ring.begin_at(span.first)
        ring.append(span.frames, span.next_offset)

    def _measure(self, frame: Frame) -> None:
        if frame.reading.is_live:
            self._on_delay((frame.sent_at - frame.reading.timestamp.timestamp()) * 1000)
