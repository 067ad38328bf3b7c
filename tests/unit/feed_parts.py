"""A feed without Kafka and sockets, for tests: what is published, and what clients get of it."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from hl_live.feed.fanout import Fanout, Place, RingSize
from hl_live.feed.frames import Frame, Span
from hl_live.feed.messages import Position
from hl_live.feed.past import Chunk, Past
from hl_live.feed.session import Limits, Session
from hl_live.feed.subscription import Outgoing
from hl_platform.core.readings import Reading
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, 0, 0, tzinfo=UTC)
STREAMS = load_streams()
FIELDS = {name: [field.name for field in stream.fields] for name, stream in STREAMS.items()}


def make_frame(
    offset: int, device_id: str = "m1", stream: str = "energy", partition: int = 0, at: datetime | None = None
) -> Frame:
    """A reading whose first field is its offset."""
    values = (float(offset), *[None] * (len(STREAMS[stream].fields) - 1))
    at = at or NOW + timedelta(milliseconds=offset)
    return Frame(STREAMS[stream], Reading(device_id, at, values, None, at), Position(partition, offset), 100)


def payloads(frames: bytes) -> list[bytes]:
    """What WebSocket frames hold, as websockets reads them."""
    reader, found = StreamReader(), []
    reader.feed_data(frames)
    while reader.buffer:
        parsing = WebSocketFrame.parse(reader.read_exact, mask=False)
        with pytest.raises(StopIteration) as end:
            next(parsing)
        frame: WebSocketFrame = end.value.value
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
        found.append(bytes(frame.data))
    return found


class House:
    """Kafka as a list of records, and a feed that has published some of them.

    Args:
        n_before: records on Kafka before the service began.
        ring: what is kept in memory.
        low: the first offset that Kafka still has.
    """

    def __init__(self, n_before: int = 0, ring: RingSize = RingSize(), low: int = 0) -> None:  # noqa: B008
        self.log: dict[Place, list[Frame]] = {}
        self.low = low
        self.starts: dict[Place, int] = {("energy", 0): n_before}
        self.now = 0.0
        self.delays: list[float] = []
        self.past = Past(self._read, self._find_range)
        self.fanout = Fanout(
            STREAMS,
            self.delays.append,
            ring=ring,
            starts=lambda: self.starts,
            now=lambda: self.now,
            on_replaced=self.past.forget,
        )
        self.reads: list[tuple[Place, int, int]] = []
        for number in range(n_before):
            self.log.setdefault(("energy", 0), []).append(make_frame(number))

    def publish(
        self, device_ids: Iterable[str] = ("m1",), stream: str = "energy", partition: int = 0
    ) -> None:
        place = (stream, partition)
        log = self.log.setdefault(place, [])
        self.starts.setdefault(place, len(log))
        first = len(log)
        frames = [
            make_frame(first + number, device_id, stream, partition)
            for number, device_id in enumerate(device_ids)
        ]
        log.extend(frames)
        self.fanout.publish([Span(stream, partition, first, len(log), frames)])

    def make_anew(self, n: int, partition: int = 0) -> None:
        """The Kafka topic is deleted and made again, and is given so many readings one by one."""
        self.log["energy", partition] = []
        for _ in range(n):
            self.publish(["m1"], partition=partition)

    def client(self, **limits: int) -> "Client":
        return Client(self, Limits(**limits))

    async def _read(self, place: Place, first: int, end: int) -> Chunk:
        self.reads.append((place, first, end))
        await asyncio.sleep(0)
        low = max(first, self.low)
        frames = [frame for frame in self.log.get(place, []) if low <= frame.offset < end]
        return Chunk(low, max(low, min(end, len(self.log.get(place, [])))), frames)

    async def _find_range(self, place: Place) -> tuple[int, int]:
        return self.low, len(self.log.get(place, []))


class Client:
    """One client: a session, what it was sent, and whether its socket has room for what is pushed."""

    def __init__(self, house: House, limits: Limits) -> None:
        self._house = house
        self.session = Session(STREAMS, house.fanout, house.past, limits, lambda: house.now)
        self.session.push_to(self._write)
        self.has_room = False
        self.n_pushed = 0
        self._on_its_way: list[Outgoing] = []
        self.got: list[dict[str, Any]] = []

    def ask(self, **request: object) -> "Client":
        self.session.receive(json.dumps(request))
        return self

    def subscribe(self, *streams: str, **options: object) -> "Client":
        return self.ask(type="subscribe", streams=streams or ["energy"], **options)

    def step(self, name: str) -> bool:
        """Does what `name` says; False where it is none of a client's steps."""
        match name:
            case "read":
                self.read()
            case "take":
                self._on_its_way = self._on_its_way or self.session.take()
            case "room" | "full":
                self.has_room = name == "room"
            case _:
                return False
        return True

    def read(self) -> list[dict[str, Any]]:
        """Reads all that is ready; returns what is new."""
        n_before = len(self.got)
        while taken := self._on_its_way or self.session.take():
            self._on_its_way = []
            self.got += [json.loads(outgoing.text) for outgoing in taken]
            self.session.settle(taken, [])
        return self.got[n_before:]

    def _write(self, frames: bytes) -> bool:
        if self.has_room:
            self.got += [json.loads(payload) for payload in payloads(frames)]
            self.n_pushed += 1
        return self.has_room

    async def settle(self) -> list[dict[str, Any]]:
        """Reads until nothing more comes by itself."""
        n_before, n_idle = len(self.got), 0
        while n_idle < 20:
            n_idle = 0 if self.read() else n_idle + 1
            await asyncio.sleep(0)
        return self.got[n_before:]

    def gaps(self) -> list[tuple[int, int, int, str]]:
        """Those of a range: partition, from and to which offset, and why."""
        return [
            (gap["partition"], gap["from_offset"], gap["to_offset"], gap["reason"]) for gap in self.of("gap")
        ]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.got if message["type"] == kind]

    def offsets(self, partition: int = 0) -> list[int]:
        """Of the data that is not of a snapshot."""
        return [
            message["position"]["offset"]
            for message in self.of("data")
            if not message.get("snapshot") and message["position"]["partition"] == partition
        ]
