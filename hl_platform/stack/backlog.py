"""What of the aggregates waits for a refresh."""

from collections.abc import Sequence
from contextlib import closing

from rich.table import Table
from rich.text import Text

from dbt_like_sql.engine.marks import COUNT_UP_TO, Backlog, read_backlog
from dbt_like_sql.engine.project import load_project
from dbt_like_sql.engine.soundness import MAX_DIRTY_S
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.core.settings import Settings
from hl_platform.stack.display import duration_text
from hl_platform.stack.tables import plain_table
from hl_platform.streams import load_streams


def read_waiting(settings: Settings) -> list[Backlog]:
    """The backlog of each model, in the order in which they depend on each other.

    Raises:
        TransientError: the database is away.
        ConfigError: the models are not deployed there, or one is wrong.
    """
    url = settings.database.read_url or settings.database.url or ""
    project = load_project(load_streams(settings.streams_dir), settings.models_dir)
    with closing(SqlDatabase(url, "hl-backlog")) as db:
        return list(read_backlog(db, project).values())


def backlog_document(backlog: Backlog) -> dict[str, object]:
    """A model's backlog for programs."""
    return {"model": backlog.model, "n_buckets": backlog.n, "oldest_s": backlog.oldest_s}


def backlog_renderable(backlog: Sequence[Backlog]) -> Table | Text:
    """The backlog for a person: only what waits."""
    waiting = [one for one in backlog if one.n]
    if not waiting:
        return Text("No closed bucket waits for a refresh.", style="green")
    table = plain_table("Buckets that wait for a refresh", ("model",), ("buckets", "oldest waits"))
    for one in waiting:
        n = f"{one.n:,}" if one.n < COUNT_UP_TO else f"{COUNT_UP_TO:,} or more"
        oldest_s = one.oldest_s or 0.0
        style = "yellow" if oldest_s > MAX_DIRTY_S else ""
        table.add_row(one.model, n, Text(duration_text(oldest_s), style=style))
    return table
