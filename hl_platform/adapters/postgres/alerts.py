"""What services say that a person should know, as they wrote it with their heartbeats."""

from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

# Longer than any pause between two heartbeats of a service that lives.
SILENT_S = 10.0

READ_ALERTS = """
-- read_alerts: everything that is raised, the oldest first
select a.service, a.stream, a.code, a.message, a.since,
       l.service is null or l.released_at is not null
           or l.beat_at < clock_timestamp() - make_interval(secs => %(silent_s)s) as is_of_the_dead
from hl.alerts as a left join hl.leases as l using (service)
order by a.since, a.service, a.stream, a.code
"""


class Alert(NamedTuple):
    """A condition that a service has raised.

    Args:
        service: who.
        stream: whose condition it is; empty if the whole service's.
        code: constant name.
        message: what it is and what helps, for a person.
        since: when it was raised first.
        is_of_the_dead: whether the service has ended since, so that nobody knows whether it still holds.
    """

    service: str
    stream: str
    code: str
    message: str
    since: datetime
    is_of_the_dead: bool

    @property
    def text(self) -> str:
        """The message with what is known about its age."""
        stale = f" ({self.service} does not run; as it said last.)" if self.is_of_the_dead else ""
        return f"{self.message}{stale}"


def read_alerts(conn: psycopg.Connection) -> list[Alert]:
    """Everything that is raised, the oldest first. The caller translates errors."""
    with conn.cursor(row_factory=class_row(Alert)) as cursor:
        return cursor.execute(READ_ALERTS, {"silent_s": SILENT_S}).fetchall()
