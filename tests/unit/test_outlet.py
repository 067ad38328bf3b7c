"""The outlet under any weather: nothing acknowledged is lost, and first occurrences keep their order per device."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from hl_platform.adapters.kafka.producer import Arrived, Delivered, Delivery
from hl_platform.adapters.mqtt.session import Token
from hl_platform.adapters.spool import FILE, PAGE_BYTES, Spool, SpoolError
from hl_platform.core.accounts import StageStats
from hl_platform.core.coverage import Covered, Place
from hl_platform.core.errors import HlError, InvariantError
from hl_platform.pipeline import outlet
from hl_platform.pipeline.outgoing import Outgoing, encode_entry
from hl_platform.pipeline.outlet import Outlet, plan_intake
from hl_platform.pipeline.spool_report import DAMAGED, FAILING, FILLING, SPOOLING, UNUSABLE, SpoolReport

AFTER_S = 10.0
ROOM = 200
# No dead letter.
ALIVE = False


class World:
    """MQTT's session and Kafka, as far as the outlet can tell, and a clock."""

    def __init__(self, directory: Path, max_bytes: int = 2**20, payload_bytes: int = 0) -> None:
        self.directory = directory
        self.payload_bytes = payload_bytes
        self.max_bytes = max_bytes
        self.now = 0.0
        self.kafka_up = True
        # What Kafka has, and what devices were told is safe, both in order.
        self.log: list[Outgoing] = []
        self.unsettled: dict[int, Outgoing] = {}
        self.settled: list[Outgoing] = []
        self.generation = 0
        self.n_published = 0
        self.waited_s = 0.0
        self.stats = StageStats()
        self.boot(kafka_answers=True)

    def boot(self, *, kafka_answers: bool) -> None:
        """A new process; MQTT gives it again what was not settled."""
        self.stats = StageStats()
        report = SpoolReport(self.stats, self.directory)

        def open_spool(on_found: Callable[..., None]) -> Spool:
            return Spool(
                self.directory,
                max_bytes=self.max_bytes,
                on_found=on_found,
                on_damage=report.damaged,
            )

        self.outlet = Outlet(
            make_producer=lambda: FakeProducer(self),
            open_spool=open_spool,
            probe=FakeProbe(self),
            after_s=AFTER_S,
            report=report,
            receiver=self,
            clock=lambda: self.now,
        )
        self.now += 1
        self.outlet.start(kafka_answers=kafka_answers)
        self.redeliver()

    def redeliver(self) -> None:
        self.generation += 1
        for number, record in self.unsettled.items():
            self.hand_over(number, record)

    def hand_over(self, number: int, record: Outgoing) -> None:
        self.stats.count(record.stream, received=1)
        self.outlet.submit([Outgoing(*astuple(record)[:-1], self.token_of(number))])

    def token_of(self, number: int) -> Token:
        """A message that comes again has another token."""
        return self.generation * 1_000_000 + number

    def publish(self) -> None:
        number = self.n_published
        self.n_published += 1
        record = Outgoing("energy", ALIVE, "topic", f"device{number % 3}", self.payload(number))
        self.unsettled[number] = record
        self.hand_over(number, record)

    def payload(self, number: int) -> bytes:
        return (b"%d" % number).ljust(self.payload_bytes)

    def kill(self) -> None:
        assert self.outlet._spool is not None
        # Nothing is noted that an orderly end would note.
        self.outlet._spool._db.close()

    def work(self, n: int = 1) -> None:
        for _ in range(n):
            self.now += 0.3
            self.outlet.work(0)

    def on_safe(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if self.is_awaited(token):
                self.settled.append(self.unsettled.pop(token % 1_000_000))

    def on_delivered(self, place: Place, covered: Covered) -> None:
        self.stats.cover(place, covered)

    def on_unheard(self, record: Outgoing) -> None:
        self.stats.count(record.stream, duplicates=1)

    def is_awaited(self, token: Token | None) -> bool:
        if token is None:
            return False
        generation, number = divmod(token, 1_000_000)
        return generation == self.generation and number in self.unsettled

    def order_of(self, device: str) -> list[int]:
        """First occurrences of a device's readings on Kafka."""
        return list(dict.fromkeys(int(record.value) for record in self.log if record.key == device))

    def finish(self) -> None:
        """Kafka comes back for good."""
        self.kafka_up = True
        self.work(50)


class FakeProbe:
    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def answered(self) -> bool:
        return self.world.kafka_up

    def begin(self) -> None:
        pass

    def stop(self) -> None:
        pass


class FakeProducer:
    """Keeps its order, delivers while Kafka is up, and says so at the next poll."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: deque[tuple[Outgoing, Delivered]] = deque()
        self.arrived: list[Arrived] = []
        self.failure: HlError | None = None
        self.dropped = False

    def queue(self, records: Iterable[Outgoing]) -> int:
        def note(record: Outgoing, delivery: Delivery) -> None:
            self.arrived.append(
                Arrived(record.kafka_topic, delivery.kafka_partition, delivery.offset + 1, [record])
            )

        n = 0
        for record in records:
            if len(self.kept) >= ROOM:
                break
            self.kept.append((record, partial(note, record)))
            n += 1
        return n

    def collect(self, timeout_s: float) -> list[Arrived]:
        self.poll(timeout_s)
        return self.take_collected()

    def take_collected(self) -> list[Arrived]:
        arrived, self.arrived = self.arrived, []
        return arrived

    def send(
        self, topic: str, key: str, value: bytes, on_delivery: Delivered, headers: Mapping[str, str] | None
    ) -> None:
        assert not self.dropped
        assert len(self.kept) < ROOM
        self.kept.append((Outgoing("energy", ALIVE, topic, key, value, headers), on_delivery))

    def poll(self, timeout_s: float) -> int:
        self.world.waited_s += timeout_s
        if not self.world.kafka_up:
            return 0
        n = min(len(self.kept), 7)
        for _ in range(n):
            record, on_delivery = self.kept.popleft()
            self.world.log.append(record)
            on_delivery(Delivery(None, 0, len(self.world.log)))
        return n

    def drop(self) -> None:
        self.dropped = True

    def retire(self) -> None:
        assert self.dropped

    def close(self, _timeout_s: float) -> int:
        return len(self.kept)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_direct_way_touches_no_disk(world: World) -> None:
    before = sorted(world.directory.iterdir())
    for _ in range(20):
        world.publish()
    world.work(10)
    assert len(world.log) == 20
    assert sorted(world.directory.iterdir()) == before


def test_nothing_is_acknowledged_before_the_spool_takes_over(world: World) -> None:
    world.kafka_up = False
    world.publish()
    world.work(int(AFTER_S / 0.3) - 2)
    assert world.settled == []
    world.work(5)
    assert len(world.settled) == 1


def test_what_kafka_refuses_ends_the_bridge_unacknowledged_also_where_the_spool_would_take_over(
    world: World,
) -> None:
    world.publish()
    world.kafka_up = False
    world.outlet._producer.failure = InvariantError("refused")
    world.now += AFTER_S + 1
    with pytest.raises(InvariantError, match="refused"):
        world.outlet.work(0)
    assert world.outlet.close(0) == 1
    assert world.settled == []


def test_spooled_readings_are_in_flight_until_kafka_has_them_also_after_a_restart(world: World) -> None:
    world.kafka_up = False
    for _ in range(5):
        world.publish()
    world.work(50)
    assert len(world.settled) == 5
    assert world.stats.snapshot()["energy"].in_flight == 5
    assert ("", SPOOLING) in world.stats.alerts
    world.kill()
    world.boot(kafka_answers=False)
    assert world.stats.snapshot()["energy"].in_flight == 5
    world.finish()
    assert world.stats.snapshot()["energy"].in_flight == 0
    assert world.stats.alerts == {}


def test_full_spool_acknowledges_nothing_more_alerts_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=100_000, payload_bytes=2_000)
    world.kafka_up = False
    for _ in range(100):
        world.publish()
        world.work()
    assert 0 < len(world.settled) < 100
    assert ("", FILLING) in world.stats.alerts
    assert ("", FAILING) in world.stats.alerts
    world.finish()
    assert world.unsettled == {}
    assert world.stats.alerts == {}
    assert [len(world.order_of(f"device{n}")) for n in range(3)] == [34, 33, 33]


def test_reconnections_do_not_add_to_what_a_full_spool_keeps_in_memory(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=100_000, payload_bytes=2_000)
    world.kafka_up = False
    for _ in range(100):
        world.publish()
    world.work(50)
    for _ in range(20):
        world.redeliver()
        world.work(10)
    assert len(world.outlet._pending) == len(world.unsettled)
    account = world.stats.snapshot()["energy"]
    assert account.in_flight == 100


def test_locked_spool_does_not_keep_the_bridge_from_its_work_and_is_drained_when_it_is_free(
    tmp_path: Path,
) -> None:
    hung = Spool(tmp_path, max_bytes=2**20, on_found=ignore, on_damage=ignore)
    hung.append([encode_entry(Outgoing("energy", ALIVE, "topic", "device9", b"900"))])
    world = World(tmp_path)
    world.publish()
    world.work(5)
    assert len(world.settled) == 1
    assert ("", UNUSABLE) in world.stats.alerts
    hung.close()
    world.finish()
    assert world.order_of("device9") == [900]
    assert world.stats.alerts == {}


def test_acknowledged_readings_of_a_damaged_spool_are_counted_once_and_go_on_to_kafka(world: World) -> None:
    world.payload_bytes = 1_000
    world.kafka_up = False
    for _ in range(180):
        world.publish()
    world.work(50)
    world.outlet.close(0)
    path = world.directory / FILE
    content = bytearray(path.read_bytes())
    middle = len(content) // PAGE_BYTES // 2 * PAGE_BYTES
    content[middle : middle + PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    world.boot(kafka_answers=False)
    world.work(10)
    assert 170 < world.stats.snapshot()["energy"].in_flight < 180
    assert ("", DAMAGED) in world.stats.alerts
    assert ("", UNUSABLE) not in world.stats.alerts
    world.finish()
    assert world.stats.snapshot()["energy"].in_flight == 0
    assert len(world.log) == world.stats.snapshot()["energy"].received


def test_found_readings_count_only_once_all_of_them_could_be_read(tmp_path: Path) -> None:
    def entries() -> Iterator[bytes]:
        yield encode_entry(Outgoing("energy", ALIVE, "topic", "device1", b"1"))
        raise SpoolError("the disk fails")

    stats = StageStats()
    with pytest.raises(SpoolError):
        SpoolReport(stats, tmp_path).found(entries())
    assert stats.snapshot() == {}


def test_tries_to_open_a_spool_that_take_long_leave_time_for_the_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def open_slowly(_on_found: object) -> Spool:
        tries.append(world.now)
        world.now += 5
        raise SpoolError("the disk fails")

    world.outlet.close(0)
    monkeypatch.setattr(world.outlet, "_open_spool", open_slowly)
    monkeypatch.setattr(world.outlet, "_spool", None)
    began = world.now
    while world.now < began + 120:
        world.work()
    assert len(tries) == 3


def test_bridge_that_can_take_nothing_more_while_kafka_is_away_waits_instead_of_spinning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MAX_PENDING", 10)
    world = World(tmp_path, max_bytes=100_000, payload_bytes=2_000)
    world.kafka_up = False
    for _ in range(100):
        world.publish()
    world.work(50)
    assert not world.outlet.has_room
    world.waited_s = 0
    world.outlet.work(0.01)
    assert world.waited_s == 0.01


def test_spool_whose_size_cannot_be_read_is_an_alert_and_the_bridge_goes_on(world: World) -> None:
    world.kafka_up = False
    world.publish()
    world.work(50)
    assert world.outlet._spool is not None
    db = world.outlet._spool._db
    # Lets every statement fail.
    db.set_progress_handler(lambda: 1, 1)
    world.work(10)
    assert ("", FAILING) in world.stats.alerts
    db.set_progress_handler(None, 1)
    world.finish()
    assert len(world.log) == 1
    assert world.stats.alerts == {}


def ignore(_told: object) -> None:
    pass


def test_a_drain_always_ends_since_half_of_what_leaves_may_come_in() -> None:
    assert plan_intake(100, 50, 0, draining=True) == 25
    assert plan_intake(100, 50, 25, draining=True) == 0
    assert plan_intake(10, 50, 0, draining=True) == 10
    assert plan_intake(100, 0, 0, draining=False) == 100


STEPS = ("publish", "publish", "publish", "work", "work", "wait", "fall", "rise", "kill", "reconnect", "stop")


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 12)), max_size=60))
def test_any_weather_loses_nothing_acknowledged_and_reorders_no_device(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for step, n in steps:
        if step == "publish":
            for _ in range(n):
                world.publish()
        elif step == "work":
            world.work(n)
        elif step == "wait":
            world.now += AFTER_S
            world.work(2)
        elif step in ("fall", "rise"):
            world.kafka_up = step == "rise"
        elif step == "reconnect":
            world.redeliver()
        else:
            if step == "stop":
                world.outlet.close(0)
            else:
                world.kill()
            world.boot(kafka_answers=world.kafka_up)
        assert {record.value for record in world.settled} | {
            record.value for record in world.unsettled.values()
        } == {b"%d" % number for number in range(world.n_published)}
    world.finish()
    assert world.unsettled == {}
    for device in range(3):
        assert world.order_of(f"device{device}") == list(range(device, world.n_published, 3))
    assert world.stats.snapshot().get("energy") is None or world.stats.snapshot()["energy"].in_flight == 0
    world.outlet.close(0)
