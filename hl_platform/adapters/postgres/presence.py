"""The table of devices that say whether they are there."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import psycopg

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated

PUT = """
-- put_presence: what devices have said; what is known already changes nothing
insert into hl.presence as known (stream, device_id, online)
select stream, device_id, online
from unnest(%(streams)s::text[], %(device_ids)s::text[], %(online)s::boolean[]) as said (stream, device_id, online)
where online is not null
on conflict (stream, device_id) do update set online = excluded.online, since = now()
where known.online <> excluded.online
"""
FORGET = """
-- forget_presence: devices whose status was taken back
delete from hl.presence
using unnest(%(streams)s::text[], %(device_ids)s::text[], %(online)s::boolean[]) as said (stream, device_id, online)
where said.online is null and presence.stream = said.stream and presence.device_id = said.device_id
"""
READ = """
-- read_presence: all of them
select stream, device_id, online, since from hl.presence
"""
PARAMETERS = {"statement_timeout": "5s", "lock_timeout": "3s"}

Key = tuple[str, str]


class Presence(NamedTuple):
    """What a device said at last, and since when."""

    online: bool
    since: datetime


def write_presence(url: str, said: Mapping[Key, bool | None]) -> None:
    """Notes by (stream, device) who is there; None takes it back.

    Raises:
        TransientError: the database cannot be reached now.

    Guarantee: all or nothing, and any number of writers of the same leave the same.
    """
    # Always in the same order, so that two writers never wait for each other.
    keys = sorted(said)
    values = {
        "streams": [stream for stream, _ in keys],
        "device_ids": [device_id for _, device_id in keys],
        "online": [said[key] for key in keys],
    }
    with (
        connect(url, application_name="hl-presence", autocommit=False, parameters=PARAMETERS) as conn,
        translated(),
    ):
        conn.execute(PUT, values)
        conn.execute(FORGET, values)
        conn.commit()


def read_presence(conn: psycopg.Connection) -> dict[Key, Presence]:
    """Who is there, by (stream, device).

    Raises:
        TransientError: the database cannot be reached now.
    """
    with translated():
        rows = conn.execute(READ).fetchall()
    return {(stream, device_id): Presence(online, since) for stream, device_id, online, since in rows}
