"""Refreshes until nothing is left, in transactions that are short enough for everybody else."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.marks import COUNT_UP_TO, Backlog
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.pace import plan_chunk
from dbt_like_sql.engine.project import Project

if TYPE_CHECKING:
    # It brings jinja2, which a process that only loads definitions does without.
    from dbt_like_sql.engine.refresh import Refresher

# A sensor's tick does this much and no more: the keep-alive sensors share its process.
TICK_MS = 500.0
# With more marks than this waiting, a run of its own is worth the seconds that it takes to start.
RUN_FROM = 2_000
RECENT = "2 days"

RECENT_FROM = """
-- recent_from: where the marks begin that go before all others
select (now() - interval '{recent}')::text
"""
OFFSETS = """
-- offsets: what the refresh before one had seen, and what another had
select
    (select next_offsets::text from hl.refreshes where model = %(model)s and id < %(first_id)s
     order by id desc limit 1),
    (select next_offsets::text from hl.refreshes where id = %(last_id)s)
"""


class Drained(NamedTuple):
    """What several refreshes of a model did.

    Args:
        model: its name.
        n_marks: taken.
        n_buckets: computed.
        duration_ms: of their transactions, in all.
        n_refreshes: transactions.
        days: buckets by the begin of the local day that they lie in.
        first_id: of the first refresh; None if there was none.
        last_id: of the last one.
    """

    model: str
    n_marks: int = 0
    n_buckets: int = 0
    duration_ms: float = 0.0
    n_refreshes: int = 0
    days: Mapping[datetime, int] = {}
    first_id: int | None = None
    last_id: int | None = None

    def plus(self, other: "Drained") -> "Drained":
        """Both together; the other one came later."""
        return Drained(
            self.model,
            self.n_marks + other.n_marks,
            self.n_buckets + other.n_buckets,
            self.duration_ms + other.duration_ms,
            self.n_refreshes + other.n_refreshes,
            Counter(self.days) + Counter(other.days),
            self.first_id or other.first_id,
            other.last_id or self.last_id,
        )


def drain(
    db: Database,
    refresher: "Refresher",
    model: Model,
    *,
    start: str = "-infinity",
    end: str = "infinity",
    budget_ms: float = float("inf"),
    wait: Callable[[float], object] = time.sleep,
) -> Drained:
    """Takes marks of a range, newest first, until none is left or the time is up.

    Args:
        db: the refresher's.
        refresher: of the project.
        model: a continuous aggregate.
        start: only marks from here on, as PostgreSQL writes times.
        end: only marks before this.
        budget_ms: no further transaction begins after this time.
        wait: lets seconds pass between transactions, when the database is slow.

    Raises:
        TransientError: the database is away; what was refreshed stays, and the other marks are still there.

    Guarantee: interrupted anywhere, the marks say what is left.
    """
    began, chunk, done = time.perf_counter(), plan_chunk(), Drained(model.name)
    while (time.perf_counter() - began) * 1000 < budget_ms:
        refreshed = refresher.refresh(model, limit=chunk.limit, start=start, end=end)
        if refreshed.n_marks == 0:
            break
        done = done.plus(
            Drained(
                model.name,
                refreshed.n_marks,
                refreshed.n_buckets,
                refreshed.duration_ms,
                1,
                dict(refreshed.days),
                refreshed.refresh_id,
                refreshed.refresh_id,
            )
        )
        if refreshed.n_marks < chunk.limit:
            break
        chunk = plan_chunk(refreshed.n_marks, refreshed.duration_ms, probe(db))
        if chunk.pause_s:
            wait(chunk.pause_s)
    return done


def drain_a_little(
    db: Database,
    refresher: "Refresher",
    project: Project,
    backlog: Mapping[str, Backlog],
    budget_ms: float = TICK_MS,
) -> list[Drained]:
    """What a tick of a sensor refreshes: recent buckets of all models, then older ones as far as the time reaches.

    Args:
        db: the refresher's.
        refresher: of the project.
        project: all models.
        backlog: of each model.
        budget_ms: for all of it.

    Returns:
        For each model of which anything was refreshed, upstream first.

    Guarantee: old marks of a model that needs a run are left to that.
    """
    began = time.perf_counter()
    recent = str(db.rows(RECENT_FROM.format(recent=RECENT))[0][0])
    done = {name: Drained(name) for name in backlog}
    for start in (recent, "-infinity"):
        for model in project.aggregates():
            waiting = backlog[model.name]
            left_ms = budget_ms - (time.perf_counter() - began) * 1000
            # What a level refreshes marks the one above, which had nothing when the backlog was read.
            below = any(done[name].n_marks for name in project.below(model) if name in done)
            if left_ms <= 0 or not (waiting.n or below) or (start != recent and waiting.n > RUN_FROM):
                continue
            new = drain(
                db,
                refresher,
                model,
                start=start,
                end=waiting.settled,
                budget_ms=left_ms,
                wait=lambda _: None,
            )
            done[model.name] = done[model.name].plus(new)
    return [each for each in done.values() if each.n_marks]


def needs_run(backlog: Mapping[str, Backlog], project: Project) -> Model | None:
    """The first model, upstream first, with more marks than ticks should do; None if there is none."""
    return next((model for model in project.aggregates() if backlog[model.name].n > RUN_FROM), None)


def probe(db: Database) -> float:
    """How long the database takes to answer a trivial statement, in ms."""
    began = time.perf_counter()
    db.rows("select 1")
    return (time.perf_counter() - began) * 1000


def read_offsets(db: Database, drained: Drained) -> tuple[str, str]:
    """Next offsets before and after, as JSON: readings between them are what is new in these refreshes."""
    values = {"model": drained.model, "first_id": drained.first_id, "last_id": drained.last_id}
    before, after = db.rows(OFFSETS, values)[0]
    return str(before or "{}"), str(after or "{}")


def describe_size(n: int) -> str:
    """A backlog's size for people."""
    return f"{n}" if n < COUNT_UP_TO else f"{COUNT_UP_TO} or more"
