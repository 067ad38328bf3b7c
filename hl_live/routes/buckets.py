"""REST routes over the aggregates of a stream: one for each level, and one that picks the level."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from hl_live.bucket_pages import Ask, Page, can_be_kept, page_of, read_page
from hl_live.buckets import KEY_COLUMNS, BucketShapes, filled, narrow, plan_filled
from hl_live.csv_text import objects_of
from hl_live.formats import IN_FORMATS, Table, media_type_of
from hl_live.params import (
    AFTER,
    BUCKET_LIMIT,
    DEVICES,
    FILL,
    POINTS,
    TZ,
    Param,
    check_range,
    fields_param,
    operation_of,
    range_params,
    write_cursor,
)
from hl_live.problems import NOT_ACCEPTABLE, PROBLEMS, BadParameterError
from hl_live.service import LiveService
from hl_live.tagged import NOT_MODIFIED, etag_of, json_around, tagged
from hl_live.zones import check_zone, in_zone, row_in_zone, zoned_reader
from hl_platform.adapters.files.parquet_bytes import Column
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.core.errors import ConfigError
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
    household = ZoneInfo(live.settings.timezone)

    def params_of(zone: tzinfo) -> tuple[Param, ...]:
        columns = fields_param(tuple(shapes.columns))
        return (*range_params(zone), DEVICES, columns, TZ, FILL, BUCKET_LIMIT, AFTER)

    read = zoned_reader(household, params_of)

    async def level(request: Request[Any, Any, Any]) -> Response[Any]:
        query = read(request.query_params.dict())
        check_range(query["start"], query["end"], LONGEST[grain])
        return await _answer(request, live, shapes, grain, query)

    summary = f"By {grain}, buckets that begin in the range, by device and time"
    return _documented(level, shapes, f"/{ADVERBS[grain]}", summary, params_of(household))


def _series_route(live: LiveService, shapes: BucketShapes) -> HTTPRouteHandler:
    household = ZoneInfo(live.settings.timezone)

    def params_of(zone: tzinfo) -> tuple[Param, ...]:
        columns = fields_param(tuple(shapes.columns))
        return (*range_params(zone), DEVICES, columns, TZ, FILL, POINTS, BUCKET_LIMIT, AFTER)

    read = zoned_reader(household, params_of)

    async def series(request: Request[Any, Any, Any]) -> Response[Any]:
        query = read(request.query_params.dict())
        check_range(query["start"], query["end"], LONGEST["year"])
        grain = coarsest(query["start"], query["end"], query["points"], live.settings.timezone)
        check_range(query["start"], query["end"], LONGEST[grain])
        # A chart begins with the bucket that its range begins in.
        query["start"] = bucket_start(grain, query["start"], household)
        return await _answer(request, live, shapes, grain, query)

    summary = "For a chart: the finest level with at most so many buckets of each device"
    return _documented(series, shapes, "/series", summary, params_of(household))


def _documented(
    handler: Callable[..., Any], shapes: BucketShapes, path: str, summary: str, params: tuple[Param, ...]
) -> HTTPRouteHandler:
    # The answer's type is made from the declaration; OpenAPI reads it here.
    handler.__annotations__["return"] = shapes.answer
    return get(
        path,
        summary=summary,
        description=IN_FORMATS,
        operation_class=operation_of(params, tables=True, tagged=True),
        responses={**PROBLEMS, **NOT_ACCEPTABLE, **NOT_MODIFIED},
    )(handler)


async def _answer(
    request: Request[Any, Any, Any],
    live: LiveService,
    shapes: BucketShapes,
    grain: Grain,
    query: dict[str, Any],
) -> Response[Any]:
    media_type = media_type_of(request)
    start, end, zone = query["start"], query["end"], query["tz"]
    check_zone(grain, start, end, zone, ZoneInfo(live.settings.timezone))
    ask = _ask(live, shapes, grain, query)
    page = await _page(live, ask)
    following = write_cursor(*page.last) if page.last else None
    parts = [part.body for part in page.parts if part.n_buckets]

    def body() -> list[bytes]:
        shown = shapes.answer(
            shapes.stream.name, grain, in_zone(start, zone), in_zone(end, zone), [], following
        )
        return json_around(shown, "buckets", parts)

    columns = (*KEY_COLUMNS, *(Column(*column) for column in ask.selection.columns))
    names = [column.name for column in columns]
    table = Table(ask.selection.model.replace("_", "-"), columns, lambda: objects_of(names, parts))
    etag = etag_of(ask.about, str(request.url.query), start, page.digest, media_type)
    return await tagged(request, etag, media_type, body=body, table=table, following=following)


def _ask(live: LiveService, shapes: BucketShapes, grain: Grain, query: dict[str, Any]) -> Ask:
    household, zone = ZoneInfo(live.settings.timezone), query["tz"]
    names: tuple[str, ...] = query["fields"] or tuple(shapes.columns)
    model = f"{shapes.stream.name}_{ADVERBS[grain]}"
    selection = BucketSelection(
        model=model,
        grain=grain,
        columns=[(name, shapes.columns[name].sql_type) for name in names],
        start=_border(grain, query["start"], household) if grain == "minute" else query["start"],
        end=query["end"],
        limit=query["limit"],
        device_ids=query["device_id"],
        after=query["after"],
        table=shapes.stream.table if grain == "minute" else None,
    )
    make = shapes.maker(names)
    about = "/".join((model, ",".join(names), "filled" if query["fill"] else "", zone.key if zone else ""))
    return Ask(selection, row_in_zone(zone, make) if zone else make, query["fill"], household, about)


async def _page(live: LiveService, ask: Ask) -> Page:
    selection = ask.selection
    if ask.fill and selection.device_ids is None:
        raise BadParameterError("fill", "true", "true only with device_id: name the devices to be filled")
    if can_be_kept(selection):
        # A model of one's own that is a plain view has no prints, and a reader of one's own may not be allowed to read
        # them: what the public view needs is enough.
        with suppress(ConfigError):
            return await live.queries.in_snapshot(lambda snapshot: read_page(snapshot, live.parts, ask))
    if not ask.fill:
        return await page_of(await live.queries.buckets(selection), ask)
    planned = plan_filled(selection, ask.zone, datetime.now(UTC))
    known = await live.queries.buckets(narrow(selection, planned)) if planned else []
    return await page_of(filled(planned, known), ask)


def _border(grain: Grain, at: datetime, zone: ZoneInfo) -> datetime:
    """The first begin of a bucket at a time or behind it."""
    begin = bucket_start(grain, at, zone)
    return begin if begin >= at else bucket_end(grain, begin, zone)
