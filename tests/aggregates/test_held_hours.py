"""Live readings hold their hour instead of its marks: no mark is taken meanwhile, and none is missing."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

import pytest

from hl_platform.adapters.postgres.connection import connect
from tests.aggregates.house import House, Writer, at, meter
from tests.aggregates.test_many_at_once import Household

HOUR = at("2026-03-03 12:00")
EARLIER = HOUR - timedelta(minutes=100)
MARK = "from hl.dirty where model = 'energy_hourly' and bucket = %s"


class Clock:
    """Sets what the database takes for the present."""

    def __init__(self, house: House) -> None:
        self.house = house
        house.execute("create table public.test_clock as select now() as at")
        house.execute(
            "create or replace function hl.clock() returns timestamptz language sql volatile "
            "as 'select at from public.test_clock'"
        )

    def set(self, moment: datetime) -> None:
        self.house.execute("update public.test_clock set at = %s", moment)


@pytest.fixture
def own(own_house: House) -> House:
    """A household whose present is within HOUR, and a meter that was heard of in it and before."""
    Clock(own_house).set(HOUR + timedelta(minutes=50))
    writer = own_house.writer("energy")
    writer.write("m", meter([(EARLIER, 1.0)]))
    writer.write("m", meter([(HOUR + timedelta(minutes=5), 2.0)]))
    return own_house


def minute(n: int, kwh: float) -> dict[datetime, dict[str, object]]:
    return meter([(HOUR + timedelta(minutes=n), kwh)])


def test_further_reading_of_the_hour_touches_no_mark(own: House) -> None:
    before = own.execute(f"select xmax::text {MARK}", HOUR)
    own.writer("energy").write("m", minute(10, 2.5))
    assert own.execute(f"select xmax::text {MARK}", HOUR) == before
    assert own.differences("energy", "m") == []


def test_marks_of_a_held_hour_are_left_and_the_others_taken(own: House) -> None:
    writer = own.writer("energy")
    with writer.conn.transaction():
        writer.write_open("m", minute(10, 2.5))
        assert own.execute("select hl.hours_held('energy_readings') * 3600") == [(int(HOUR.timestamp()),)]
        assert own.refresh("energy_hourly") == 2
        assert own.refresh("energy_hourly") == 0
    assert own.execute(f"select count(*) {MARK}", HOUR) == [(1,)]
    assert own.refresh("energy_hourly") == 1
    own.drain()
    assert own.differences("energy", "m") == []


def test_mark_is_locked_while_somebody_takes_marks(own: House) -> None:
    before = own.execute(f"select xmax::text {MARK}", HOUR)
    with connect(own.url, application_name="test", autocommit=False) as taker:
        taker.execute("select pg_advisory_xact_lock_shared(hashtextextended('hl.floors.energy_readings', 0))")
        own.writer("energy").write("m", minute(10, 2.5))
    assert own.execute(f"select xmax::text {MARK}", HOUR) != before


def test_reading_behind_a_deleted_one_is_marked_back_to_the_one_before_that(own: House) -> None:
    own.execute("delete from public.energy_readings where timestamp = %s", HOUR + timedelta(minutes=5))
    own.refresh("energy_hourly", limit=2)
    assert own.execute("select known_at " + MARK, HOUR) in ([], [(None,)])
    own.writer("energy").write("m", minute(10, 2.5))
    assert own.marks("energy_hourly") == 3
    own.drain()
    assert own.differences("energy", "m") == []


def test_devices_new_in_the_hour_are_marked_beside_those_that_are_known(own: House) -> None:
    writer = own.writer("energy")
    writer.write("new", meter([(EARLIER, 7.0)]))
    own.drain()
    writer.write("m", minute(9, 2.2))
    with writer.conn.transaction():
        for device in ("m", "new"):
            writer.write_open(device, minute(10, 8.0))
    own.drain()
    assert [own.differences("energy", device) for device in ("m", "new")] == [[], []]


class Present(Household):
    """Everybody writes in what the live writer takes for the present, or before."""

    def __init__(self, house: House, seed: int, n_actions: int) -> None:
        super().__init__(house, seed, n_actions)
        self.clock = Clock(house)
        self.now = at("2026-03-01 17:10")
        self.clock.set(self.now)

    def live(self) -> None:
        random, shown = Random(f"{self.seed} live"), 500.0
        with self.writer() as writer:
            for _ in range(8 * self.n_actions):
                now = self.now + timedelta(minutes=random.choice((1, 5, 20, 70)))
                shown = random.random() if random.random() < 0.05 else shown + random.random()
                self.clock.set(now)
                self.now = now
                self.insist(lambda now=now, shown=shown: self.send(writer, now, shown))

    def send(self, writer: Writer, now: datetime, shown: float) -> None:
        for device in ("meter-1", "meter-2"):
            writer.write(device, meter([(now, shown)]), partitions=False)

    def moment(self, random: Random) -> datetime:
        return self.now - timedelta(minutes=random.randint(0, 200))

    moved_by = "-91 minutes -7.5 seconds"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_every_snapshot_is_right_while_hours_are_held(new_house: Callable[[str], House], zone: str) -> None:
    house = new_house(zone)
    assert Present(house, seed=1, n_actions=10).run() == []
    house.drain()
    assert house.marks("energy%") == 0
    assert [house.differences("energy", device) for device in ("meter-1", "meter-2")] == [[], []]
