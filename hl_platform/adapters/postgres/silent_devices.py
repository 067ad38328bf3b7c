"""Devices from which nothing has come for longer than their stream expects."""

from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.errors import translated
from hl_platform.adapters.postgres.readings import DEVICES
from hl_platform.core.streams import Stream

MAX_SHOWN = 100

# One jump and one look at the newest reading for each device, along the primary key.
SILENT: LiteralString = """
-- silent: those whose newest reading is older than that, the newest first
select d.device_id, extract(epoch from now() - newest.timestamp)::float8 as age_s
from devices d cross join lateral (
    select t.timestamp from public.{table} t where t.device_id = d.device_id order by t.timestamp desc limit 1
) as newest
where newest.timestamp < now() - make_interval(secs => %(silent_s)s)
order by age_s limit %(limit)s
"""


class SilentDevice(NamedTuple):
    """A device, and seconds since its newest reading's own time."""

    stream: str
    device_id: str
    age_s: float


def read_silent_devices(conn: psycopg.Connection, stream: Stream) -> list[SilentDevice]:
    """The devices of a stream that have said nothing for longer than `max_gap_s`, the first hundred.

    Raises:
        TransientError: the database cannot be reached now.
        ConfigError: the stream has no table there.
    """
    query = sql.SQL(DEVICES + SILENT).format(table=sql.Identifier(stream.table))
    values = {"device_ids": None, "silent_s": stream.max_gap_s, "limit": MAX_SHOWN}
    with translated():
        rows = conn.execute(query, values).fetchall()
    return [SilentDevice(stream.name, device_id, age_s) for device_id, age_s in rows]
