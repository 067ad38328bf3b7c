"""REST routes over the aggregates of a stream: one for each level, and one that picks the level."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from hl_live.buckets import BucketShapes, encode_rows, filled, narrow, plan_filled
from hl_live.params import (
    AFTER,
    BUCKET_LIMIT,
    DEVICES,
    FILL,
    POINTS,
    Param,
    check_range,
    fields_param,
    operation_of,
    range_params,
    read_params,
    write_cursor,
)
from hl_live.problems import PROBLEMS, BadParameterError
from hl_live.service import LiveService
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.core.levels import ADVERBS, GRAINS, MAX_MINUTELY, Grain, bucket_end, bucket_start, coarsest
from hl_platform.core.streams import Stream

# A leap year of hours in one page; of coarser levels as much as anybody has.
LONGEST: Mapping[Grain, timedelta] = {
    "minute": MAX_MINUTELY,
    "hour": timedelta(days=366),
    "day": timedelta(days=3_660),
    "month": timedelta(days=36_600),
    "year": timedelta(days=36_600),
}


def bucket_routes(live: LiveService, stream: Stream) -> list[HTTPRouteHandler]:
    """`/minutely` to `/yearly`, and `/series`."""
    shapes = BucketShapes(stream)
    return [*(_level_route(live, shapes, grain) for grain in GRAINS), _series_route(live, shapes)]


def _level_route(live: LiveService, shapes: BucketShapes, grain: Grain) -> HTTPRouteHandler:
    zone = ZoneInfo(live.settings.timezone)
    params = (*range_params(zone), DEVICES, fields_param(tuple(shapes.columns)), FILL, BUCKET_LIMIT, AFTER)

    async def level(request: Request[Any, Any, Any]) -> msgspec.Struct:
        query = read_params(request.query_params.dict(), params)
        check_range(query["start"], query["end"], LONGEST[grain])
        return await _answer(live, shapes, grain, zone, query)

    summary = f"By {grain}, buckets that begin in the range, by device and time"
    return _documented(level, shapes, f"/{ADVERBS[grain]}", summary, params)


def _series_route(live: LiveService, shapes: BucketShapes) -> HTTPRouteHandler:
    zone = ZoneInfo(live.settings.timezone)
    params = (
        *range_params(zone),
        DEVICES,
        fields_param(tuple(shapes.columns)),
        FILL,
        POINTS,
        BUCKET_LIMIT,
        AFTER,
    )

    async def series(request: Request[Any, Any, Any]) -> msgspec.Struct:
        query = read_params(request.query_params.dict(), params)
        check_range(query["start"], query["end"], LONGEST["year"])
        grain = coarsest(query["start"], query["end"], query["points"], live.settings.timezone)
        check_range(query["start"], query["end"], LONGEST[grain])
        # A chart begins with the bucket that its range begins in.
        query["start"] = bucket_start(grain, query["start"], zone)
        return await _answer(live, shapes, grain, zone, query)

    summary = "For a chart: the finest level with at most so many buckets of each device"
    return _documented(series, shapes, "/series", summary, params)


def _documented(
    handler: Callable[..., Any], shapes: BucketShapes, path: str, summary: str, params: tuple[Param, ...]
) -> HTTPRouteHandler:
    # The answer's type is made from the declaration; OpenAPI reads it here.
    handler.__annotations__["return"] = shapes.answer
    return get(path, summary=summary, operation_class=operation_of(params), responses=PROBLEMS)(handler)


async def _answer(
    live: LiveService, shapes: BucketShapes, grain: Grain, zone: ZoneInfo, query: dict[str, Any]
) -> msgspec.Struct:
    names: tuple[str, ...] = query["fields"] or tuple(shapes.columns)
    selection = BucketSelection(
        model=f"{shapes.stream.name}_{ADVERBS[grain]}",
        grain=grain,
        columns=[(name, shapes.columns[name].sql_type) for name in names],
        start=_border(grain, query["start"], zone) if grain == "minute" else query["start"],
        end=query["end"],
        limit=query["limit"],
        device_ids=query["device_id"],
        after=query["after"],
        table=shapes.stream.table if grain == "minute" else None,
    )
    if not query["fill"]:
        rows = await live.queries.buckets(selection)
    elif selection.device_ids is None:
        raise BadParameterError("fill", "true", "true only with device_id: name the devices to be filled")
    else:
        page = plan_filled(selection, zone)
        rows = filled(page, await live.queries.buckets(narrow(selection, page))) if page else []
    full = len(rows) == query["limit"]
    following = write_cursor(rows[-1][0], rows[-1][1]) if full else None
    encoded = await encode_rows(shapes.maker(names), rows)
    return shapes.answer(shapes.stream.name, grain, query["start"], query["end"], encoded, following)


def _border(grain: Grain, at: datetime, zone: ZoneInfo) -> datetime:
    """The first begin of a bucket at a time or behind it."""
    begin = bucket_start(grain, at, zone)
    return begin if begin >= at else bucket_end(grain, begin, zone)
