"""Buckets as the API answers them: their columns, made from a stream's declaration, and their JSON."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import chain, islice, starmap
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from dbt_like_sql.engine.scaffold import describe_columns, gap_name, moved_name
from hl_live.schemas import TYPE_NAMES, make_struct
from hl_platform.adapters.files.parquet_bytes import Column as TableColumn
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.core.levels import buckets
from hl_platform.core.readings import PYTHON_TYPES
from hl_platform.core.streams import Field, Stream

# Making JSON of them holds the event loop; this many take about 1 ms.
ROWS_AT_A_TIME = 1_000

Row = tuple[Any, ...]

# Of every bucket, before its own columns; the names are those of `BucketShapes.struct_of`.
KEY_COLUMNS = (
    TableColumn("device_id", "text"),
    TableColumn("start", "timestamptz"),
    TableColumn("end", "timestamptz"),
    TableColumn("n_readings", "int8"),
    TableColumn("coverage", "float8"),
    TableColumn("provisional", "bool"),
)


class Column(NamedTuple):
    """One column of a model that the API shows.

    Args:
        sql_type: PostgreSQL's own name of it.
        hint: what it is in an answer.
    """

    name: str
    sql_type: str
    hint: Any


def public_columns(stream: Stream) -> list[Column]:
    """What a model of a stream shows beside its key, in order; what only serves to merge buckets is left out."""
    times = [Column(name, "timestamptz", datetime) for name in ("first_at", "last_at")]
    return times + [column for field in stream.fields for column in _columns_of(field)]


def _columns_of(field: Field) -> Iterator[Column]:
    same = (TYPE_NAMES[field.type], PYTHON_TYPES[field.type])
    name = field.name
    match field.kind:
        case "gauge":
            yield from (Column(f"{name}_{what}", "float8", float) for what in ("mean", "sample_mean"))
            yield from (Column(f"{name}_{what}", *same) for what in ("min", "max", "first", "last"))
            yield Column(f"{name}_weight_s", "float8", float)
        case "counter":
            yield from (Column(one, "float8", float) for one in (moved_name(field), gap_name(field)))
            yield from (Column(f"{name}_{what}", *same) for what in ("first", "last"))
            yield Column(f"{name}_events", "int8", int)
        case "state" if field.type == "boolean":
            yield Column(f"{name}_true_s", "float8", float)
            yield Column(f"{name}_starts", "int8", int)
        case "state":
            yield Column(f"{name}_seconds", "jsonb", dict[str, float])
            yield Column(f"{name}_changes", "int8", int)
        case _:
            yield Column(name, *same)


class BucketShapes:
    """The answer types of one stream's buckets.

    Args:
        stream: the declaration.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.columns = {column.name: column for column in public_columns(stream)}
        self._comments = describe_columns(stream, "bucket")
        self._title = "".join(part.capitalize() for part in stream.name.split("_"))
        self.bucket = self.struct_of(tuple(self.columns))
        # The list's item type is only known at run time.
        hint = list[self.bucket]  # type: ignore[name-defined]
        self.answer = answer_struct(
            f"{self._title}BucketsAnswer", hint, f"Buckets of {stream.name}, by device and begin."
        )
        self.maker = lru_cache(maxsize=64)(self.struct_of)

    def struct_of(self, names: Sequence[str]) -> type[msgspec.Struct]:
        """The type of a bucket with these columns."""
        fields: list[Any] = [
            ("device_id", str),
            ("start", Annotated[datetime, Meta(description="Begin, inclusive")]),
            ("end", Annotated[datetime, Meta(description="End, exclusive")]),
            ("n_readings", Annotated[int, Meta(description=self._comments["n_readings"])]),
            (
                "coverage",
                Annotated[
                    float,
                    Meta(ge=0, le=1, description="Share of the bucket in which readings tell the values"),
                ],
            ),
            ("provisional", Annotated[bool, Meta(description="The bucket ends in the future")]),
        ]
        for name in names:
            meta = Meta(description=self._comments.get(name, name))
            fields.append((name, Annotated[self.columns[name].hint | None, meta], None))
        return make_struct(f"{self._title}Bucket", fields, f"A bucket of {self.stream.name}.", gc=False)


def answer_struct(name: str, buckets_hint: Any, doc: str) -> type[msgspec.Struct]:  # noqa: ANN401 - a type
    """The type of an answer with a page of buckets."""
    fields = [
        ("stream", str),
        ("level", Annotated[str, Meta(description="minute, hour, day, month or year")]),
        ("start", datetime),
        ("end", datetime),
        ("buckets", buckets_hint),
        (
            "next",
            Annotated[
                str | None, Meta(description="Give it as `after` for the next page; null after the last")
            ],
        ),
    ]
    return make_struct(name, fields, doc)


async def encode_rows(make: Callable[..., msgspec.Struct], rows: Sequence[Row]) -> list[bytes]:
    """JSON objects of what is made of each row, with commas between, in pieces; lets others run meanwhile."""
    parts = []
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        made = list(starmap(make, rows[first : first + ROWS_AT_A_TIME]))
        parts.append(msgspec.json.encode(made)[1:-1])
        await asyncio.sleep(0)
    return parts


def plan_filled(selection: BucketSelection, zone: tzinfo, now: datetime) -> list[Row]:
    """All buckets of a page, as they are when nothing is known of them.

    Args:
        selection: names its devices and a limit.
        zone: the household's.
        now: what ends later is provisional.
    """
    nothing = (None,) * len(selection.columns)

    def of_device(device_id: str) -> Iterator[Row]:
        start = selection.start
        if selection.after is not None and device_id == selection.after[0]:
            start = max(start, selection.after[1])
        for begin, end in buckets(selection.grain, start, selection.end, zone):
            if selection.after is None or (device_id, begin) > selection.after:
                yield (device_id, begin, end, 0, 0.0, end > now, *nothing)

    devices = sorted(set(selection.device_ids or ()))
    if selection.after is not None:
        devices = [device_id for device_id in devices if device_id >= selection.after[0]]
    return list(islice(chain.from_iterable(map(of_device, devices)), selection.limit))


def narrow(selection: BucketSelection, page: Sequence[Row]) -> BucketSelection:
    """What has to be read for a page of buckets."""
    return selection._replace(
        device_ids=sorted({row[0] for row in page}),
        start=min(row[1] for row in page),
        end=max(row[2] for row in page),
        after=None,
        limit=None,
    )


def filled(page: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """The page, with what is known of its buckets."""
    found = {row[:2]: row for row in known}
    return list(map(found.get, (row[:2] for row in page), page))
