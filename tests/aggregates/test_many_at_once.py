"""Writers, people and refreshers at the same time: a reader's snapshot agrees with the rules at every moment."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random

import psycopg
import pytest

from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.errors import TransientError
from tests.aggregates.house import VERSION, House, Writer, at, readings_of, rows_of
from tests.aggregates.oracle import Readings, buckets, differences

BEGIN = at("2026-03-01 17:10")
DEVICES = ("meter-1", "meter-2")
TABLE = b"public.energy_readings"


class Household:
    """What several threads do to one database.

    Args:
        house: its database.
        seed: of everything that is random, though not of the order in which threads run.
        n_actions: of each writer.
    """

    moved_by = "91 minutes 7.5 seconds"

    def __init__(self, house: House, seed: int, n_actions: int) -> None:
        self.house = house
        self.seed = seed
        self.n_actions = n_actions
        self.done = threading.Event()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        writer = Writer(self.house.url, self.house.streams["energy"])
        try:
            yield writer
        finally:
            writer.conn.close()

    def live(self) -> None:
        """The sink: batches of new readings of all devices, in order, now and then a reset."""
        random, now, shown = Random(f"{self.seed} live"), BEGIN, 500.0
        with self.writer() as writer:
            for _ in range(self.n_actions):
                batch = []
                for _ in range(random.randint(1, 4)):
                    now += timedelta(minutes=random.choice((1, 5, 20, 70, 400)))
                    shown = random.random() if random.random() < 0.05 else shown + random.random()
                    batch.append((now, shown))
                for device in DEVICES:
                    self.insist(
                        lambda device=device, batch=batch: writer.write(device, values(batch, random))
                    )

    def moment(self, random: Random) -> datetime:
        """When a late reading was taken."""
        return BEGIN + timedelta(minutes=random.randint(0, 9_000))

    def late(self) -> None:
        """Another sink, or an import: readings from anywhere in the past."""
        random = Random(f"{self.seed} late")
        with self.writer() as writer:
            for _ in range(self.n_actions):
                device, when = random.choice(DEVICES), self.moment(random)
                batch = values([(when, random.uniform(490, 520))], random)
                self.insist(lambda device=device, batch=batch: writer.write(device, batch, partitions=False))

    def person(self) -> None:
        """Somebody with psql: deletes, corrects and moves readings, in transactions that stay open a little."""
        random = Random(f"{self.seed} person")
        with self.writer() as writer:
            for _ in range(self.n_actions):
                kind, device = random.choice(("delete", "correct", "move")), random.choice(DEVICES)
                share = random.random()
                self.insist(lambda k=kind, d=device, s=share: self.change(writer.conn, k, d, s))

    def change(self, conn: psycopg.Connection, kind: str, device: str, share: float) -> None:
        with conn.transaction():
            times = conn.execute(
                b"select timestamp from " + TABLE + b" where device_id = %s order by 1", (device,)
            )
            found = [row[0] for row in times]
            if not found:
                return
            key = (device, found[int(share * len(found))])
            where = b" where device_id = %s and timestamp = %s"
            if kind == "delete":
                conn.execute(b"delete from " + TABLE + where, key)
            elif kind == "correct":
                conn.execute(
                    b"update " + TABLE + b" set total_energy_kwh = total_energy_kwh + 1" + where, key
                )
            else:
                moved = b" set timestamp = timestamp + %s::interval"
                conn.execute(b"update " + TABLE + moved + where, (self.moved_by, *key))
            conn.execute(b"select pg_sleep(0.01)")

    def refresh(self, name: str) -> None:
        random = Random(f"{self.seed} {name}")
        db = SqlDatabase(self.house.url, f"test-{name}", BULK)
        refresher, models = Refresher(db, self.house.project, VERSION), self.models()
        while not self.done.is_set():
            model, limit = random.choice(models), random.choice((1, 7, 1000))
            self.insist(lambda model=model, limit=limit: refresher.refresh(model, limit=limit))
        db.close()

    def models(self) -> list[object]:
        return [model for model in self.house.project.aggregates() if model.name.startswith("energy_")]

    def check(self) -> list[str]:
        """Compares until the writers are done; returns what was wrong at any moment."""
        conn = connect(self.house.url, application_name="test-checker", autocommit=False)
        stream, told, last = self.house.streams["energy"], [], False
        while not told and not last:
            last = self.done.is_set()
            conn.execute(b"set transaction isolation level repeatable read, read only")
            for device in DEVICES:
                readings = readings_of(conn, stream, device)
                for level, name in (("hour", "hourly"), ("day", "daily"), ("month", "monthly")):
                    found = rows_of(conn, f"public.energy_{name}", device)
                    told += differences(found, buckets(stream, readings, level, self.house.timezone))
            conn.rollback()
        conn.close()
        return told

    def insist(self, work: Callable[[], object]) -> None:
        """As the services do: an outage or a deadlock is tried again; the same key twice is somebody else's."""
        for _ in range(50):
            try:
                work()
            except (TransientError, psycopg.errors.OperationalError):
                continue
            except psycopg.errors.UniqueViolation:
                return
            return
        raise AssertionError("not done after 50 tries")

    def run(self) -> list[str]:
        with ThreadPoolExecutor(6) as pool:
            writers: list[Future[None]] = [pool.submit(work) for work in (self.live, self.late, self.person)]
            others = [pool.submit(self.refresh, name) for name in ("refresher-1", "refresher-2")]
            checked = pool.submit(self.check)
            try:
                for writer in writers:
                    writer.result()
            finally:
                self.done.set()
            for other in others:
                other.result()
            return checked.result()


def values(batch: list[tuple[object, float]], random: Random) -> Readings:
    return {
        when: {
            "total_energy_kwh": kwh,
            "power_kw": random.random(),
            "voltage": random.choice((None, 230.5)),
            "current": None,
        }
        for when, kwh in batch
    }


def ends_right(house: House, seed: int, n_actions: int) -> None:
    assert Household(house, seed, n_actions).run() == []
    house.drain()
    assert house.marks("energy%") == 0
    for device in DEVICES:
        assert house.differences("energy", device) == []


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_every_snapshot_is_right_while_many_write_and_refresh(
    new_house: Callable[[str], House], zone: str
) -> None:
    ends_right(new_house(zone), seed=1, n_actions=8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
def test_every_snapshot_is_right_for_long(new_house: Callable[[str], House], seed: int) -> None:
    ends_right(new_house("Asia/Kolkata" if seed % 2 else "Europe/Berlin"), seed, n_actions=16)
