"""Aggregates on a PostgreSQL of its own: materializing, late rows, queries, what marking costs; beside plain SQL."""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from rich.table import Table

from bench.ingest import Ingest
from bench.stack import console, own_postgres
from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform import __version__
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.streams import load_streams

# A transaction of a refresh takes this many marks: in bulk more is faster, and nobody waits here.
MARKS_AT_A_TIME = 240
WORKERS = 2

FILL = """
-- fill: devices that all report in step
insert into public.energy_readings (device_id, timestamp, total_energy_kwh, power_kw, voltage, current, received_at)
select 'meter' || lpad(m::text, 4, '0'), t, 1000 + extract(epoch from t - %(start)s)::float8 / 2400,
       1.5 + sin(extract(epoch from t)::float8 / 1000), 230, 5, t
from generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 second', %(every)s::interval) as t,
     generate_series(1, %(n_devices)s) as m
"""
# What the marks to beat were measured with.
PLAIN = """
-- plain: hourly count, mean, extremes and ends, in one statement
insert into plain_rollup
select device_id, date_bin('1 hour', timestamp, 'epoch'), count(*), avg(power_kw), min(power_kw), max(power_kw),
       min(timestamp), max(timestamp)
from public.energy_readings group by 1, 2
"""
# All columns of energy_hourly, but what crosses a border of an hour is not cut, and no reset is looked for.
PLAIN_SAME = """
-- plain_same: as much as energy_hourly computes, in one statement
insert into plain_same
select device_id, bucket, count(*), min(at), max(at), sum(seconds), sum(next_kwh - kwh),
       {gauges}
from (
    select device_id, timestamp as at, date_bin('1 hour', timestamp, 'epoch') as bucket, total_energy_kwh as kwh,
           lead(total_energy_kwh) over step as next_kwh,
           least(date_part('epoch', lead(timestamp) over step - timestamp), 600) as seconds, power_kw, voltage, current
    from public.energy_readings window step as (partition by device_id order by timestamp)
) as steps
group by 1, 2
"""
PLAIN_TABLE = """
create table plain_rollup (
    device_id text, bucket timestamptz, n bigint, mean float8, least float8, greatest float8,
    first_at timestamptz, last_at timestamptz)
"""
SAME_TABLE = f"""
create table plain_same (
    device_id text, bucket timestamptz, n bigint, first_at timestamptz, last_at timestamptz, covered_s float8,
    consumption_kwh float8, {", ".join(f"gauge_{n} float8" for n in range(24))})
"""
GAUGE = (
    "count({0}), sum({0}), min({0}), max({0}), sum({0} * seconds), sum(seconds) filter (where {0} is not null), "
    "(array_agg({0} order by at))[1], (array_agg({0} order by at desc))[1]"
)
LAST_DAY = """
-- last_day: hourly mean of all devices over the newest 24 hours, from the public view
select bucket, avg(power_kw_mean) from public.energy_hourly
where bucket >= %(start)s and bucket < %(end)s group by bucket order by bucket
"""
SIZES = """
-- sizes: bytes per row of readings and of materialized hours
select
    (select sum(pg_total_relation_size(relid)) from pg_partition_tree('public.energy_readings'))
        / (select count(*) from public.energy_readings),
    (select sum(pg_total_relation_size(relid)) from pg_partition_tree('materialized.energy_hourly'))
        / (select count(*) from materialized.energy_hourly)
"""
LATE = """
-- late: one reading between two others
insert into public.energy_readings (device_id, timestamp, total_energy_kwh, power_kw, voltage, current, received_at)
select device_id, timestamp + interval '300 ms', total_energy_kwh, power_kw, voltage, current, now()
from public.energy_readings where device_id = 'meter0001' and timestamp = any(%(times)s::timestamptz[])
"""


DIFFERENT = """
-- different: hours of a device in which the public view is not what is computed anew
select count(*)
from generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 day', '1 day') as day
cross join lateral hl.compute_energy_hourly('meter0001', day, day + interval '1 day') as c
full join public.energy_hourly as v on v.device_id = c.device_id and v.bucket = c.bucket
where v.device_id = 'meter0001' and v.bucket < %(end)s
    and (c.consumption_kwh, c.n_readings, c.power_kw_mean)
        is distinct from (v.consumption_kwh, v.n_readings, v.power_kw_mean)
"""


class Household(NamedTuple):
    """A set of readings: so many devices, one reading each in so many seconds, for so many days."""

    name: str
    n_devices: int
    every_s: int
    n_days: int


SETS = (Household("home", 2, 1, 30), Household("fleet", 1000, 10, 1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench aggregates` takes."""
    parser.add_argument("--sets", default="home,fleet", help="which sets of readings, of home and fleet")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the days or devices of each set")
    parser.add_argument("--repeat", type=int, default=5, help="of what is quick")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Measures each set on a PostgreSQL of its own; 1 when a view differs from what is computed anew."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    out, right = console(), True
    figures: dict[str, dict[str, Any]] = {}
    for household in SETS:
        if household.name not in arguments.sets.split(","):
            continue
        with own_postgres() as url, closing(SqlDatabase(url, "hl-bench", BULK)) as db:
            out.print(f"{household.name}: filling …")
            bench = Bench(url, db, _scaled(household, arguments.scale), arguments.repeat)
            figures[household.name] = bench.measure()
            right = right and bench.is_right()
        out.print(_table(household.name, figures[household.name]))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2, default=str))
    out.print(
        "The views are what is computed anew." if right else "[red]A view differs from what is computed anew."
    )
    return 0 if right else 1


class Bench:
    """One set of readings, filled in before the models are deployed."""

    def __init__(self, url: str, db: SqlDatabase, household: Household, repeat: int) -> None:
        self._url, self._db, self._repeat = url, db, repeat
        self._household = household
        self._streams = load_streams(None)
        self._project: Project = load_project(self._streams)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._end = today
        self._start = today - timedelta(days=household.n_days)
        migrate(url, None, self._streams.values())
        for n in range(household.n_days):
            day = self._start + timedelta(days=n)
            db.rows("select hl.ensure_partition('energy_readings', %(day)s)", {"day": day.date()})
            values = {
                "start": day,
                "end": day + timedelta(days=1),
                "every": f"{household.every_s} seconds",
                "n_devices": household.n_devices,
            }
            db.rows(FILL, values)
        # Otherwise the server begins to do so by itself, in the middle of what is measured.
        db.rows("vacuum analyze public.energy_readings")

    def measure(self) -> dict[str, Any]:
        """Everything, by name: seconds, milliseconds or bytes as the name says."""
        db = self._db
        found: dict[str, Any] = {"n_rows": db.rows("select count(*) from public.energy_readings")[0][0]}
        db.rows(PLAIN_TABLE)
        found["one plain statement, means only, s"] = self._timed(lambda: db.rows(PLAIN))
        gauges = ", ".join(GAUGE.format(name) for name in ("power_kw", "voltage", "current"))
        db.rows(SAME_TABLE)
        found["one plain statement, the same columns, s"] = self._timed(
            lambda: db.rows(PLAIN_SAME.format(gauges=gauges))
        )
        found["deploy and mark all, s"] = self._timed(lambda: deploy(db, self._project, "UTC", __version__))
        found["materialize all hours, s"] = self._timed(lambda: self._drain(["energy_hourly"]))
        found["days, months and years from them, s"] = self._timed(
            lambda: self._drain(["energy_daily", "energy_monthly", "energy_yearly"])
        )
        db.rows("analyze materialized.energy_hourly")
        found |= self._late_rows()
        found |= self._queries()
        raw, hourly = db.rows(SIZES)[0]
        found |= {"bytes per reading": int(raw), "bytes per materialized hour": int(hourly)}
        found |= Ingest(self._url, self._streams["energy"], self._repeat).measure()
        found["TimescaleDB"] = self._timescale()
        return found

    def is_right(self) -> bool:
        """Whether the public view equals what is computed anew, for some days of a device."""
        different = self._db.rows(DIFFERENT, {"start": self._start, "end": self._end})
        return bool(different[0][0] == 0)

    def _drain(self, models: list[str]) -> None:
        for name in models:
            workers = [threading.Thread(target=self._work, args=(name,)) for _ in range(WORKERS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

    def _work(self, name: str) -> None:
        with closing(SqlDatabase(self._url, "hl-bench-refresh", BULK)) as db:
            refresher = Refresher(db, self._project, __version__)
            while refresher.refresh(self._project.models[name], limit=MARKS_AT_A_TIME).n_marks:
                pass

    def _late_rows(self) -> Mapping[str, float]:
        refresher = Refresher(self._db, self._project, __version__)
        models = [model for model in self._project.aggregates() if model.name.startswith("energy_")]

        def refresh() -> None:
            for model in models:
                while refresher.refresh(model, limit=1_000).n_marks:
                    pass

        one, two = [], []
        for n in range(self._repeat + 1):
            noon = self._end - timedelta(hours=12 - n / 10, minutes=n * self._household.every_s)
            self._db.rows(LATE, {"times": [noon]})
            one.append(self._timed(refresh) * 1000)
            apart = noon - timedelta(hours=1)
            self._db.rows(
                LATE, {"times": [apart, apart - timedelta(hours=min(23, 24 * self._household.n_days - 16))]}
            )
            two.append(self._timed(refresh) * 1000)
        # The first plans the functions, which a running refresher has done once.
        return {
            "refresh after one late row, all levels, ms": statistics.median(one[1:]),
            "refresh after two late rows far apart, ms": statistics.median(two[1:]),
        }

    def _queries(self) -> Mapping[str, float]:
        values = {"start": self._end - timedelta(days=1), "end": self._end}
        year = {"start": self._end - timedelta(days=365), "end": self._end}
        return {
            "24-hour query from the view, ms": self._median(lambda: self._db.rows(LAST_DAY, values)),
            "all hours of one device from the view, ms": self._median(
                lambda: self._db.rows(
                    "select bucket, consumption_kwh, power_kw_mean from public.energy_hourly "
                    "where device_id = 'meter0001' and bucket >= %(start)s and bucket < %(end)s order by bucket",
                    year,
                )
            ),
        }

    def _timescale(self) -> str:
        rows = self._db.rows("select default_version from pg_available_extensions where name = 'timescaledb'")
        return f"{rows[0][0]} is installed; see bench/README.md" if rows else "not installed on this server"

    def _median(self, work: Callable[[], object]) -> float:
        return statistics.median([self._timed(work) * 1000 for _ in range(self._repeat + 1)][1:])

    def _timed(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def _scaled(household: Household, scale: float) -> Household:
    if household.n_days > 1:
        return household._replace(n_days=max(2, round(household.n_days * scale)))
    return household._replace(n_devices=max(10, round(household.n_devices * scale)))


def _table(name: str, figures: Mapping[str, Any]) -> Table:
    table = Table(title=f"{name}, {figures['n_rows']:,} readings", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for what, figure in figures.items():
        table.add_row(what, f"{figure:,.2f}" if isinstance(figure, float) else str(figure))
    return table
