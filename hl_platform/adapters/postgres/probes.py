"""The readings of `hl check`, which are stored beside those of devices."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import psycopg

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.readings import Reading

# Also removes those whose sender never came back for them, so that the table stays as small as it is.
WRITE_PROBES = """
-- write_probes: keep new ones, drop forgotten ones
with forgotten as (delete from hl.probes where stored_at < now() - interval '1 hour')
insert into hl.probes (stream, sent_at, received_at)
select %(stream)s, * from unnest(%(sent_at)s::timestamptz[], %(received_at)s::timestamptz[])
on conflict (stream, sent_at) do nothing
"""

FIND_PROBES = """
-- find_probes: which of these have been stored
select stream from hl.probes
where (stream, sent_at) in (select * from unnest(%(streams)s::text[], %(sent_at)s::timestamptz[]))
"""

DROP_PROBES = """
-- drop_probes: remove these
delete from hl.probes
where (stream, sent_at) in (select * from unnest(%(streams)s::text[], %(sent_at)s::timestamptz[]))
"""


def write_probes(conn: psycopg.Connection, stream: str, probes: Sequence[Reading]) -> int:
    """Stores probes in the caller's transaction; returns how many were not there. Lets the driver's errors out."""
    values = {
        "stream": stream,
        "sent_at": [probe.timestamp for probe in probes],
        "received_at": [probe.received_at for probe in probes],
    }
    return conn.execute(WRITE_PROBES, values).rowcount


class ProbeWatch:
    """Looks for probes that were sent, on a connection of its own.

    Args:
        url: of the database, as its owner.
        probes: when each was sent, by stream; looked at anew each time.

    Raises from every method:
        TransientError: the database is away.
        ConfigError: it is not one of hl.
    """

    def __init__(self, url: str, probes: Mapping[str, datetime]) -> None:
        self._probes = probes
        self._conn = connect(url, application_name="hl-check")
        self.stored()

    def stored(self) -> set[str]:
        """The streams whose probe is a row by now."""
        with translated():
            return {row[0] for row in self._conn.execute(FIND_PROBES, self._values())}

    def close(self) -> None:
        """Removes the probes and closes the connection."""
        with translated():
            self._conn.execute(DROP_PROBES, self._values())
            self._conn.close()

    def _values(self) -> dict[str, list[str] | list[datetime]]:
        return {"streams": list(self._probes), "sent_at": list(self._probes.values())}
