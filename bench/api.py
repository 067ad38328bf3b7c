"""A year of hours by the API: asked for the first time, again, and by who has the answer. On a PostgreSQL of its own.

The service runs in this process, without sockets and without Kafka. Times are of the clock; beside them stands the
processor time, of PostgreSQL and of this process, which tells more on a machine that does other things as well.
"""

import argparse
import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode

import httpx
import psycopg
import structlog
import uvloop
from rich.table import Table

from bench.stack import console, own_postgres
from dbt_like_sql.engine.deploy import columns_of, deploy
from dbt_like_sql.engine.project import load_project
from hl_live.app import create_app
from hl_live.chunks import PartCache
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import Settings, load_settings
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


def cpu_ms(process: int) -> float:
    """Processor time of a process so far (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6


class Cost(NamedTuple):
    """What one kind of request takes: of the clock, of PostgreSQL's processor time and of ours (ms)."""

    took: float
    least: float
    there: float
    here: float

    def __str__(self) -> str:
        return f"{self.took:.1f} ({self.least:.1f}; {self.there:.1f} + {self.here:.1f})"


async def measured(n: int, backends: Sequence[int], work: Callable[[], Awaitable[object]]) -> Cost:
    """Medians of n runs, after some to warm up."""
    for _ in range(10):
        await work()
    took, there, here = [], [], []
    for _ in range(n):
        before = time.perf_counter(), sum(map(cpu_ms, backends)), time.process_time()
        await work()
        took.append((time.perf_counter() - before[0]) * 1000)
        there.append(sum(map(cpu_ms, backends)) - before[1])
        here.append((time.process_time() - before[2]) * 1000)
    return Cost(statistics.median(took), min(took), statistics.median(there), statistics.median(here))


async def measure(settings: Settings, n: int) -> Table:
    """All paths, one after the other, where nothing is kept in memory and where it is."""
    table = Table(title=f"{N_DAYS} days of one meter, ms: median (least; CPU of PostgreSQL + own) of {n}")
    for head in ("what", "buckets", "MB", "first time", "again", "who has it (304)"):
        table.add_column(head, justify="left" if head == "what" else "right")
    async with serving(settings, PartCache(0)) as cold, serving(settings, PartCache()) as warm:
        for label, (level, fields) in PATHS.items():
            path = path_of(level, fields)
            answer = (await warm.get(path)).raise_for_status()
            known = {"If-None-Match": answer.headers["etag"]}
            backends = await backends_of(settings)
            cells = [
                await measured(n, backends, partial(cold.get, path)),
                await measured(n, backends, partial(warm.get, path)),
                await measured(n, backends, partial(warm.get, path, headers=known)),
            ]
            n_buckets = len(answer.json()["buckets"])
            table.add_row(label, f"{n_buckets:,}", f"{len(answer.content) / 1e6:.2f}", *map(str, cells))
    return table


@asynccontextmanager
async def serving(settings: Settings, parts: PartCache) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which keeps what it answers in these parts."""
    app = create_app(settings, parts=parts)
    transport = httpx.ASGITransport(cast(Any, app))
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def path_of(level: str, fields: str) -> str:
    """What is asked for."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    params = {"start": (end - timedelta(days=N_DAYS)).isoformat(), "end": end.isoformat()}
    params |= {"device_id": "meter1"} | ({"fields": fields} if fields else {})
    return f"/api/v1/energy/{level}?{urlencode(params)}"


async def backends_of(settings: Settings) -> list[int]:
    """The processes of PostgreSQL that serve the API."""
    query = "select pid from pg_stat_activity where application_name = 'hl-live'"
    async with await psycopg.AsyncConnection.connect(settings.database.url or "") as conn:
        return [pid for (pid,) in await (await conn.execute(query)).fetchall()]


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
            console().print(runner.run(measure(load_settings(env), arguments.requests)))
    return 0
