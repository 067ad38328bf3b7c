"""Everything that all stages count, in one scrape, named after Prometheus' conventions.

    hl.accounts, hl.leases, hl.delays, hl.offsets, hl.alerts, hl.balances ─┐
    marks of the aggregates, every few seconds ────────────────────────────┼─> families ─> text
    the feed's own state, in memory ───────────────────────────────────────┘

No table of readings is read, and however many ask, the database is asked once a second.

Source: https://prometheus.io/docs/practices/naming/ and …/instrumenting/exposition_formats/.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dbt_like_sql.engine.marks import Backlog, read_backlog
from dbt_like_sql.engine.project import Project
from hl_live.delay_totals import DelayTotals
from hl_live.metric_families import (
    FeedFacts,
    families_of_backlog,
    families_of_feed,
    families_of_rows,
    lag_family,
    up_family,
)
from hl_live.threads import in_thread
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.adapters.postgres.metrics_reader import MetricRows, read_metric_rows
from hl_platform.core.errors import HlError

log = structlog.get_logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 1.0
# Marks are counted up to 5,000 a model, which is the dearest part of a scrape.
BACKLOG_FRESH_S = 15.0
# A scrape is given up after ten seconds by default; until then it has to be answered.
PATIENT = {"statement_timeout": "3s", "jit": "off"}


class Metrics:
    """Answers scrapes.

    Args:
        url: of the database, as a reader.
        project: the models whose backlog is told.
        stale_after_s: age of a heartbeat at which its service counts as dead.
        feed: what this process knows of its own feed.

    Guarantee: answers while the database is away, with `hl_dependency_up` 0 and what is known without it.
    """

    def __init__(
        self, url: str, project: Project, stale_after_s: float, feed: Callable[[], FeedFacts]
    ) -> None:
        self._url = url
        self._project = project
        self._stale_after_s = stale_after_s
        self._feed = feed
        self._lock = asyncio.Lock()
        self._rows: MetricRows | None = None
        self._read_at = -FRESH_S
        self._backlog: Mapping[str, Backlog] = {}
        self._backlog_at = -BACKLOG_FRESH_S
        self._delays = DelayTotals()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    async def text(self) -> bytes:
        """The metrics of now."""
        async with self._lock:
            # Also when the database is away: scrapes that queue up must not each wait for it.
            if time.monotonic() - self._read_at >= FRESH_S:
                self._rows = await in_thread(self._read)
                self._read_at = time.monotonic()
            return self._text_of(self._rows)

    def _read(self) -> MetricRows | None:
        now = time.monotonic()
        try:
            with connect(self._url, application_name="hl-live-metrics", parameters=PATIENT) as conn:
                rows = read_metric_rows(conn, self._delays.since_s)
            if now - self._backlog_at >= BACKLOG_FRESH_S:
                with closing(SqlDatabase(self._url, "hl-live-metrics", PATIENT)) as db:
                    self._backlog = read_backlog(db, self._project)
                self._backlog_at = now
        except HlError as exc:
            log.warning("metrics_without_database", error=str(exc))
            return None
        self._delays.add(rows.delays)
        return rows

    def _text_of(self, rows: MetricRows | None) -> bytes:
        feed = self._feed()
        families = [up_family({"database": rows is not None, "kafka": feed.kafka_answers})]
        families += families_of_feed(feed)
        if rows is not None:
            families += families_of_rows(rows, self._delays.histograms(), self._stale_after_s)
            families += families_of_backlog(self._backlog.values())
        families.append(lag_family(rows.next_offsets if rows else {}, feed))
        registry = CollectorRegistry()
        registry.register(_Families(families))
        return generate_latest(registry) + generate_latest(self._process)


class _Families(Collector):
    """Families that were made before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
