"""A year of hours by the API: the query, making JSON, the whole request. On a PostgreSQL of its own.

The service runs in this process, without sockets and without Kafka. Times are of the clock; beside them stands the
processor time of the query, in the server and here, which tells more on a machine that does other things as well.
"""

import argparse
import asyncio
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import structlog
import uvloop
from litestar import Litestar
from rich.table import Table

from bench.stack import console, own_postgres
from dbt_like_sql.engine.deploy import columns_of, deploy
from dbt_like_sql.engine.project import load_project
from hl_live.app import create_app
from hl_live.buckets import BucketShapes, encode_rows
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.readings import ReadingQueries
from hl_platform.core.settings import load_settings
from hl_platform.streams import load_streams

N_DAYS = 365
TIMEZONE = "Europe/Berlin"
PATHS = {
    "hourly, consumption and mean power": ("hourly", "consumption_kwh,power_kw_mean"),
    "hourly, consumption": ("hourly", "consumption_kwh"),
    "hourly, all columns": ("hourly", ""),
    "daily, all columns": ("daily", ""),
}

FILL = """
insert into materialized.energy_{level} (device_id, bucket, bucket_end, n_readings, covered_s, {others})
select device, bucket, hl.bucket_end('{grain}', bucket), 3600,
       date_part('epoch', hl.bucket_end('{grain}', bucket) - bucket), {values}
from unnest(array['meter1', 'meter2']) as device
cross join lateral (
    select distinct hl.bucket_start('{grain}', t) as bucket
    from generate_series(now() - interval '400 days', now(), interval '1 hour') as t
) as buckets
order by bucket, device
"""
PARTITIONS = """
select hl.ensure_bucket_partition('energy_hourly', 'month', date_trunc('month', t, 'UTC'))
from generate_series(now() - interval '420 days', now() + interval '40 days', interval '28 days') as t
"""


@contextmanager
def filled_database() -> Iterator[str]:
    """The url of a database with more than a year of materialized hours and days of two meters."""
    with own_postgres() as url:
        fill(url)
        yield url


def fill(url: str) -> None:
    """Makes the models of the meters and rows for them, and the running hour, which is dirty."""
    energy = {"energy": load_streams()["energy"]}
    migrate(url, None, energy.values())
    with closing(SqlDatabase(url, "hl-bench", BULK)) as db:
        deploy(db, load_project(energy), TIMEZONE, "bench")
        db.rows(PARTITIONS)
        for level, grain in (("hourly", "hour"), ("daily", "day")):
            columns = columns_of(db, f"materialized.energy_{level}")
            others = [
                name
                for name in columns
                if name not in ("device_id", "bucket", "bucket_end", "n_readings", "covered_s")
            ]
            values = [
                "bucket"
                if name.endswith("_at")
                else "0"
                if name.endswith(("_events", "_id", "_count"))
                else "random()"
                for name in others
            ]
            db.rows(FILL.format(level=level, grain=grain, others=", ".join(others), values=", ".join(values)))
        db.rows(
            "insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, received_at) "
            "select 'meter1', t, 1, 1, t from generate_series(date_trunc('hour', now()), now(), interval '1 second') t"
        )
        db.rows("vacuum analyze")


async def timed(n: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """The ms that each of n runs took, after some to warm up."""
    for _ in range(10):
        await work()
    found = []
    for _ in range(n):
        began = time.perf_counter()
        await work()
        found.append((time.perf_counter() - began) * 1000)
    return found


def cpu_ms(process: int) -> float:
    """Processor time of a process so far (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6


async def query_cpu(
    queries: ReadingQueries, selection: BucketSelection, url: str, n: int
) -> tuple[float, float]:
    """Medians of the processor time of one query: in the server, and here."""
    [backend] = [
        pid
        for (pid,) in psycopg.connect(url).execute(
            "select pid from pg_stat_activity where application_name = 'hl-bench-api' "
            "order by state_change desc limit 1"
        )
    ]
    there, here = [], []
    for _ in range(n):
        before = cpu_ms(backend), time.thread_time()
        await queries.buckets(selection)
        there.append(cpu_ms(backend) - before[0])
        here.append((time.thread_time() - before[1]) * 1000)
    return statistics.median(there), statistics.median(here)


async def measure(app: Litestar, url: str, n: int) -> Table:
    """All paths, one after the other."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=N_DAYS)
    table = Table(title=f"{N_DAYS} days of one meter, ms: median (least) of {n}")
    for head in ("what", "buckets", "MB", "query and rows", "its CPU there + here", "JSON", "whole request"):
        table.add_column(head, justify="left" if head == "what" else "right")
    queries = ReadingQueries(url, "hl-bench-api")
    await queries.open()
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for label, (level, fields) in PATHS.items():
            params: dict[str, str] = {
                "start": start.isoformat(),
                "end": end.isoformat(),
                "device_id": "meter1",
            }
            params |= {"fields": fields} if fields else {}
            answer = (await client.get(f"/api/v1/energy/{level}", params=params)).raise_for_status()
            selection, make = _selected(level, fields, start, end)
            rows = await queries.buckets(selection)
            cells = [
                await timed(n, lambda selection=selection: queries.buckets(selection)),  # type: ignore[misc]
                await timed(n, lambda make=make, rows=rows: encode_rows(make, rows)),  # type: ignore[misc]
                await timed(
                    n, lambda level=level, params=params: client.get(f"/api/v1/energy/{level}", params=params)
                ),  # type: ignore[misc]
            ]
            there, here = await query_cpu(queries, selection, url, n)
            shown = [f"{statistics.median(cell):.1f} ({min(cell):.1f})" for cell in cells]
            shown.insert(1, f"{there:.1f} + {here:.1f}")
            n_buckets = len(answer.json()["buckets"])
            table.add_row(label, f"{n_buckets:,}", f"{len(answer.content) / 1e6:.2f}", *shown)
    await queries.close()
    return table


def _selected(level: str, fields: str, start: datetime, end: datetime) -> tuple[BucketSelection, Any]:
    shapes = BucketShapes(load_streams()["energy"])
    names = tuple(fields.split(",")) if fields else tuple(shapes.columns)
    columns = [(name, shapes.columns[name].sql_type) for name in names]
    grain: Any = {"hourly": "hour", "daily": "day"}[level]
    selection = BucketSelection(f"energy_{level}", grain, columns, start, end, 10_000, ["meter1"])
    return selection, shapes.maker(names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench api` takes."""
    parser.add_argument("--requests", type=int, default=100, help="of each kind")


def main(arguments: argparse.Namespace) -> int:
    """Runs it; always 0: the figures are for a person."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with socket.socket() as nobody, filled_database() as url:
        # Bound and not listening: there is no Kafka.
        nobody.bind(("127.0.0.1", 0))
        env = {
            "HL_DATABASE__URL": url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody.getsockname()[1]}",
            "HL_TIMEZONE": TIMEZONE,
        }
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            console().print(runner.run(measure(create_app(load_settings(env)), url, arguments.requests)))
    return 0
