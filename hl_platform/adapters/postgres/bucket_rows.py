"""SQL that reads buckets of the models: narrow, half-open, in pages, and prepared once for each set of columns."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from hl_platform.core.levels import Grain

# How long a bucket is (s). Of hours there are thousands in an answer, and nearly all are whole.
LENGTHS: Mapping[Grain, LiteralString] = {
    "minute": "60",
    "hour": "case when bucket_end = bucket + interval '1 hour' then 3600 "
    "else date_part('epoch', bucket_end - bucket) end",
}
ANY_LENGTH: LiteralString = "date_part('epoch', bucket_end - bucket)"

# In place of a time that does not matter.
NOWHEN = datetime(1970, 1, 1, tzinfo=UTC)

BUCKETS: LiteralString = """
-- buckets: a model's buckets that begin in a half-open range
select device_id, bucket, bucket_end, n_readings,
       round(1e6 * least(covered_s / ({length}), 1)) / 1e6, bucket_end > now(){columns}
from public.{model}
where bucket >= %(start)s and bucket < %(end)s{conditions}
order by device_id, bucket limit %(limit)s
"""

# A function computes one device's buckets between two borders; below the floor it has no readings to do so from.
COMPUTED: LiteralString = """
-- computed: a model's buckets that begin in a half-open range, computed now
select m.device_id, bucket, bucket_end, n_readings,
       round(1e6 * least(covered_s / ({length}), 1)) / 1e6, bucket_end > now(){columns}
from devices d
cross join lateral hl.{function}(
    d.device_id, %(start)s, date_bin('1 minute', %(end)s + interval '59.999999 s', 'epoch')) m
where bucket < %(end)s{conditions}
  and bucket >= coalesce((select floor from hl.floors where table_name = {table_name}), '-infinity')
order by m.device_id, bucket limit %(limit)s
"""

COSTS: LiteralString = """
-- costs: rows of a view of costs that begin in a half-open range
select device_id, bucket, bucket_end, bucket_end > now(){columns}
from public.{model}
where bucket >= %(start)s and bucket < %(end)s{conditions}
order by device_id, bucket limit %(limit)s
"""


class BucketSelection(NamedTuple):
    """Which buckets are read.

    Args:
        model: its name.
        grain: how long its buckets are.
        columns: further ones, each with the type that it is cast to.
        start, end: the range in which they begin, half-open; of a computed model, `start` is a border.
        limit: how many at most; None for no limit.
        device_ids: None for all.
        after: only what follows this device and begin, in the order of the answer.
        table: of the readings, where the model is a function that is computed when it is asked for.
    """

    model: str
    grain: Grain
    columns: Sequence[tuple[str, str]]
    start: datetime
    end: datetime
    limit: int | None
    device_ids: Sequence[str] | None = None
    after: tuple[str, datetime] | None = None
    table: str | None = None

    def shape(self) -> "BucketSelection":
        """One that has the same SQL, and which all that have it share."""
        return self._replace(
            columns=tuple(self.columns),
            start=NOWHEN,
            end=NOWHEN,
            limit=None,
            # Whether there is one, or several, is in the SQL.
            device_ids=None if self.device_ids is None else ("",) * min(len(self.device_ids), 2),
            after=None if self.after is None else ("", NOWHEN),
        )

    def values(self) -> dict[str, Any]:
        """The parameters of its SQL."""
        after_device, after_bucket = self.after or (None, None)
        return {
            "start": self.start,
            "end": self.end,
            "limit": self.limit,
            "device_ids": None if self.device_ids is None else list(self.device_ids),
            "after_device": after_device,
            "after_bucket": after_bucket,
        }


@lru_cache(maxsize=256)
def buckets_sql(selection: BucketSelection, devices: LiteralString) -> bytes:
    """Reads buckets of a model. Putting it together takes as long as a short query.

    Args:
        selection: the shape of one.
        devices: a WITH that makes `devices` of the table's, for a model that is computed when it is asked for.
    """
    parts = {
        "length": sql.SQL(LENGTHS.get(selection.grain, ANY_LENGTH)),
        "columns": _columns(selection),
        "model": sql.Identifier(selection.model),
    }
    if selection.table is None:
        return sql.SQL(BUCKETS).format(conditions=_conditions(selection), **parts).as_bytes()
    composed = sql.SQL(devices + COMPUTED).format(
        table=sql.Identifier(selection.table),
        table_name=sql.Literal(selection.table),
        function=sql.Identifier(f"compute_{selection.model}"),
        conditions=_after(selection, sql.Identifier("m", "device_id")),
        **parts,
    )
    return composed.as_bytes()


def costs_sql(selection: BucketSelection) -> sql.Composed:
    """Reads rows of a view of costs."""
    return sql.SQL(COSTS).format(
        columns=_columns(selection),
        model=sql.Identifier(selection.model),
        conditions=_conditions(selection),
    )


def _columns(selection: BucketSelection) -> sql.Composed:
    return sql.SQL("").join(
        sql.SQL(", {}::{}").format(sql.Identifier(name), sql.Identifier("pg_catalog", sql_type))
        for name, sql_type in selection.columns
    )


def _conditions(selection: BucketSelection) -> sql.Composed:
    # Written only where it is meant, so that a plan need not serve both cases.
    after = _after(selection, sql.Identifier("device_id"))
    if selection.device_ids is None:
        return after
    # Of one device the rows come in the order of time, and need not be compared by device.
    one = len(selection.device_ids) == 1
    chosen = (
        " and device_id = (%(device_ids)s::text[])[1]"
        if one
        else " and device_id = any(%(device_ids)s::text[])"
    )
    return sql.Composed([sql.SQL(chosen), after])


def _after(selection: BucketSelection, device_id: sql.Identifier) -> sql.Composed:
    if selection.after is None:
        return sql.Composed([])
    return sql.SQL(" and ({}, bucket) > (%(after_device)s, %(after_bucket)s::timestamptz)").format(device_id)
