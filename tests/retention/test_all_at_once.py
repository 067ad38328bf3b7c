"""Everything at the same time, on real servers: at every moment the views say what all readings ever written say.

Through Kafka and the sink come live readings, late ones, corrections, and dead letters that are reprocessed; a person
deletes; two refreshers, retention and absorption work on the same tables. A row trigger of the test's own notes every
reading in the transaction that writes it, and forgets none that retention takes away, so that one snapshot has both.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
import structlog

from dbt_like_sql.engine.absorb import Absorber
from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from dbt_like_sql.engine.retention import Retention
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.dead_letter_index import Selection
from hl_platform.core.errors import TransientError
from hl_platform.core.streams import Stream
from hl_platform.pipeline.reprocess import reprocessing
from tests.aggregates.house import at, readings_of, rows_of
from tests.aggregates.oracle import buckets, differences
from tests.home import Home, eventually, record

BEGIN = at("2026-03-01 10:10")
DEVICES = ("meter-1", "meter-2")
LEVELS = (("hour", "hourly"), ("day", "daily"), ("month", "monthly"))
# What the database will not have until somebody allows it.
FORBIDDEN_KW = 66.0
EVER = """
create table public.ever (like public.{table} including indexes);
create function public.note_ever() returns trigger language plpgsql as $$
begin
    if current_setting('hl.unmarked', true) = 'on' then
        return null;
    elsif tg_op = 'DELETE' then
        delete from public.ever where device_id = old.device_id and timestamp = old.timestamp;
    else
        insert into public.ever as e select new.* on conflict (device_id, timestamp) do update
        set ({names}, received_at) = row({excluded}, excluded.received_at)
        where row({stored}) is distinct from row({excluded}) and excluded.received_at >= e.received_at;
    end if;
    return null;
end $$;
create trigger note_ever after insert or update or delete on public.{table}
    for each row execute function public.note_ever();
alter table public.{table} add constraint forbidden check (power_kw <> {forbidden});
"""


class Town:
    """Everybody who works on one household's readings.

    Args:
        home: its servers and streams.
        directory: of the archive.
        zone: the household's.
        seed: of all that is random, though not of the order in which threads run.
    """

    def __init__(self, home: Home, directory: Path, zone: str, seed: int) -> None:
        self.home, self.zone, self.seed = home, zone, seed
        self.url = home.env["HL_DATABASE__URL"]
        self.stream: Stream = home.energy
        self.streams = {stream.name: stream for stream in home.streams.values()}
        self.project: Project = load_project(self.streams)
        self.files = ArchiveDirectory(directory)
        self.now = BEGIN
        self.sent: list[tuple[str, datetime]] = []
        self.forbidden: set[tuple[str, datetime]] = set()
        self.deleted: set[tuple[str, datetime]] = set()
        self.sent_all, self.done, self.quiet = threading.Event(), threading.Event(), threading.Event()
        self.n_checked = self.n_checked_below = 0
        self.allowed = False
        with closing(SqlDatabase(self.url, "test", BULK)) as db:
            deploy(db, self.project, zone, "test")
        names = [field.name for field in self.stream.fields]
        home.execute(
            EVER.format(
                table=self.stream.table,
                names=", ".join(names),
                excluded=", ".join(f"excluded.{name}" for name in names),
                stored=", ".join(f"e.{name}" for name in names),
                forbidden=FORBIDDEN_KW,
            )
        )

    @property
    def models(self) -> list[Model]:
        return [model for model in self.project.aggregates() if model.name.startswith(self.stream.name)]

    def send(self, random: Random, *moments: datetime) -> None:
        """What a bridge would write to Kafka of some moments; a few readings are not allowed yet."""
        for moment in moments:
            key = (random.choice(DEVICES), moment)
            power_kw = FORBIDDEN_KW if random.random() < 0.1 else round(random.random(), 3)
            kwh = (moment - BEGIN).total_seconds() / 3_600 + random.random() + 50
            voltage = random.choice((None, 230.5))
            if power_kw == FORBIDDEN_KW:
                self.forbidden.add(key)
            self.home.produce(record(*key, total_energy_kwh=kwh, power_kw=power_kw, voltage=voltage))
            self.sent.append(key)

    def live(self) -> None:
        random = Random(f"{self.seed} live")
        while self.now < BEGIN + timedelta(days=6):
            batch = [self.now + timedelta(minutes=random.choice((1, 10, 40, 200)) * n) for n in range(1, 4)]
            self.send(random, *batch)
            self.now = batch[-1]
            time.sleep(0.2)

    def late(self) -> None:
        random = Random(f"{self.seed} late")
        while not self.sent_all.is_set():
            if random.random() < 0.5 and self.sent:
                # The same key again, with other values: a correction.
                device, moment = random.choice(self.sent)
                self.home.produce(record(device, moment, total_energy_kwh=55, power_kw=random.random()))
            else:
                self.send(random, BEGIN + random.random() * (self.now - BEGIN))
            time.sleep(0.3)

    def person(self) -> None:
        """Deletes what is not being dropped, in transactions that stay open a little."""
        random = Random(f"{self.seed} person")
        table = self.stream.table
        with connect(self.url, application_name="test-person") as conn:
            while not self.sent_all.is_set():
                device, share = random.choice(DEVICES), random.random()
                try:
                    with conn.transaction():
                        gone = conn.execute(
                            f"delete from {table} where device_id = %s and timestamp = ("  # noqa: S608
                            f"select percentile_disc(%s) within group (order by timestamp) from {table} "
                            "where device_id = %s and timestamp > %s) returning device_id, timestamp".encode(),
                            (device, share, device, self.now - timedelta(days=1)),
                        ).fetchall()
                        conn.execute(b"select pg_sleep(0.01)")
                    self.deleted.update(gone)
                except psycopg.errors.OperationalError:
                    continue
                time.sleep(0.2)

    def reprocess(self) -> None:
        """Replays all dead letters again and again; half-way the database begins to allow them."""
        while not self.sent_all.is_set():
            if self.now > BEGIN + timedelta(days=3):
                self.allow()
            self.replay()
            time.sleep(0.2)

    def allow(self) -> None:
        """As a migration does while everything runs: tries again when it was in somebody's way."""
        while not self.allowed:
            try:
                self.home.execute(f"alter table public.{self.stream.table} drop constraint forbidden")
            except psycopg.errors.DeadlockDetected:
                continue
            self.allowed = True

    def replay(self) -> None:
        with reprocessing(self.home.settings, self.streams) as work:
            work.apply(Selection(stream=self.stream.name), "test", None)

    def refresh(self, name: str) -> None:
        random = Random(f"{self.seed} {name}")
        with closing(SqlDatabase(self.url, f"test-{name}", BULK)) as db:
            refresher = Refresher(db, self.project, "test")
            while not self.done.is_set():
                model, limit = random.choice(self.models), random.choice((1, 7, 1000))
                insist(lambda m=model, n=limit: refresher.refresh(m, limit=n))

    def retain(self) -> None:
        with closing(SqlDatabase(self.url, "test-retention", BULK)) as db:
            retention = Retention(db, self.project, self.files, "test")
            absorber = Absorber(db, self.project, self.files, "test")
            while not self.done.is_set():
                for work in (
                    lambda: absorber.absorb(self.stream, 4),
                    lambda: retention.run(self.stream, self.now - timedelta(days=1.5)),
                ):
                    insist(work, tries=1)
                time.sleep(0.05)

    def check(self) -> list[str]:
        """Compares snapshots until all is quiet; returns what was wrong in any."""
        conn = connect(self.url, application_name="test-checker", autocommit=False)
        told: list[str] = []
        last = False
        while not told and not last:
            last = self.quiet.is_set()
            conn.execute(b"set transaction isolation level repeatable read, read only")
            for device in DEVICES:
                told += self.differences(conn, device)
            conn.rollback()
        conn.close()
        return told

    def differences(self, conn: psycopg.Connection, device: str) -> list[str]:
        """What the views say otherwise, in one snapshot.

        A late reading below the floor is merged when it is absorbed: while one of this device waits, only what begins
        above the floor is compared.
        """
        floor = conn.execute(
            b"select max(floor) from hl.floors where table_name = %s", (self.stream.table,)
        ).fetchone()
        waits = conn.execute(
            b"select count(*) from hl.dirty where model = %s and device_id = %s and bucket < %s",
            (f"{self.stream.name}_hourly", device, floor[0] if floor else None),
        ).fetchone()
        begin = floor[0] if floor and waits and waits[0] else None
        ever = readings_of(conn, _Named(self.stream, "ever"), device)
        told = []
        for level, adverb in LEVELS:
            wanted = buckets(self.stream, ever, level, self.zone)
            found = rows_of(conn, f"public.{self.stream.name}_{adverb}", device)
            if begin is not None:
                wanted, found = (
                    {start: row for start, row in rows.items() if start >= begin} for rows in (wanted, found)
                )
            told += [f"{device} {level}: {text}" for text in differences(found, wanted)]
        self.n_checked += 1
        self.n_checked_below += bool(floor and floor[0] and begin is None)
        return told

    def run(self) -> list[str]:
        with self.home.running("sink"), ThreadPoolExecutor(8) as pool:
            refreshers = [pool.submit(self.refresh, name) for name in ("refresher-1", "refresher-2")]
            others = [*refreshers, pool.submit(self.retain)]
            checked = pool.submit(self.check)
            writers = [pool.submit(work) for work in (self.late, self.person, self.reprocess)]
            try:
                self.live()
                self.sent_all.set()
                for writer in writers:
                    writer.result()
                self.settle()
                self.done.set()
                for other in others:
                    other.result()
                self.absorb_all()
            finally:
                for event in (self.sent_all, self.done, self.quiet):
                    event.set()
            return checked.result()

    def absorb_all(self) -> None:
        with closing(SqlDatabase(self.url, "test-absorber", BULK)) as db:
            Absorber(db, self.project, self.files, "test").run(self.stream)

    def settle(self) -> None:
        """Until everything that was sent is a row, the dead letters included."""
        self.allow()
        eventually(self.replayed)

    def replayed(self) -> bool:
        self.replay()
        rows = {(row[0], row[1]) for row in self.home.query("select device_id, timestamp from public.ever")}
        return self.forbidden <= rows | self.deleted


class _Named:
    """A stream as the oracle's reader wants it, of another table."""

    def __init__(self, stream: Stream, table: str) -> None:
        self.fields, self.table = stream.fields, table


def insist(work: Callable[[], Any], tries: int = 50) -> None:
    """As the services do: an outage, a lock or a deadlock is tried again."""
    for _ in range(tries):
        try:
            work()
        except TransientError:
            continue
        return
    assert tries == 1, "not done after all tries"


@pytest.fixture(autouse=True)
def quiet(own_log_configuration: None) -> None:
    del own_log_configuration
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def ends_right(home: Home, directory: Path, zone: str, seed: int) -> None:
    town = Town(home, directory, zone, seed)
    assert town.run() == []
    replayed = home.query("select count(*) from hl.dead_letters where state = 'replayed'")[0][0]
    archived = home.query("select count(*), sum(n_rows) from hl.archives")[0]
    assert (replayed > 0, archived[0] > 0, town.n_checked_below > len(DEVICES)) == (True, True, True)


@pytest.mark.timeout(300)
def test_views_say_so_at_every_moment_while_everybody_works(home: Home, tmp_path: Path) -> None:
    ends_right(home, tmp_path, "Europe/Berlin", seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("zone", "seed"), [("Asia/Kolkata", 2), ("UTC", 3)])
def test_views_say_so_with_other_seeds(home: Home, tmp_path: Path, zone: str, seed: int) -> None:
    ends_right(home, tmp_path, zone, seed)
