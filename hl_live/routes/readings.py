"""REST routes of the streams, made from their declarations."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from hl_live.auth.access import ANY, grant_of
from hl_live.formats import IN_FORMATS, JSON, media_type_of
from hl_live.params import (
    AFTER,
    DEVICES,
    LATEST_AFTER,
    LATEST_LIMIT,
    LIMIT,
    TZ,
    Param,
    check_range,
    fields_param,
    operation_of,
    range_params,
    read_params,
    write_cursor,
)
from hl_live.problems import NOT_ACCEPTABLE, PROBLEMS, UnknownStreamError
from hl_live.reading_tables import digest_of, newest_table, readings_table
from hl_live.routes.buckets import bucket_routes
from hl_live.routes.cost import cost_route
from hl_live.schemas import StreamsAnswer, StreamShapes, describe_streams
from hl_live.service import LiveService
from hl_live.tagged import NOT_MODIFIED, etag_of, format_headers, link_headers, tagged
from hl_live.threads import in_thread
from hl_live.zones import readings_in_zone, zoned_reader
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream

# As many hours as one page can hold; who wants more of the past goes year by year.
LONGEST_RAW = timedelta(days=366)


def readings_router(live: LiveService) -> Router:
    """Everything under /api/v1 that concerns streams."""
    routers = [_stream_router(live, stream) for stream in live.streams.values()]
    return Router("/api/v1", route_handlers=[_streams_route(live), _unknown_stream_route(live), *routers])


def _streams_route(live: LiveService) -> HTTPRouteHandler:
    answer = describe_streams(list(live.streams.values()))

    @get(
        "/streams",
        tags=["streams"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="The declared streams, as far as they may be read",
        opt={"access": ANY},
    )
    async def streams(request: Request[Any, Any, Any]) -> StreamsAnswer:
        read_params(request.query_params.dict(), ())
        grant = grant_of(request)
        return StreamsAnswer([stream for stream in answer.streams if grant.may_read(stream.name)])

    return streams


def _unknown_stream_route(live: LiveService) -> HTTPRouteHandler:
    @get(["/{stream:str}", "/{stream:str}/{rest:path}"], include_in_schema=False)
    async def unknown(stream: FromPath[str], request: Request[Any, Any, Any]) -> None:
        if stream in live.streams:
            raise NotFoundException(detail=f"Stream {stream!r} has no route {request.url.path!r:.100}.")
        raise UnknownStreamError(stream, list(live.streams))

    return unknown


def _stream_router(live: LiveService, stream: Stream) -> Router:
    shapes = StreamShapes(stream)
    handlers = [_latest_route(live, shapes), _raw_route(live, shapes), *bucket_routes(live, stream)]
    if stream.name == "energy":
        handlers.append(cost_route(live))
    return Router(f"/{stream.name}", route_handlers=handlers, tags=[stream.name], opt={"stream": stream.name})


def _latest_route(live: LiveService, shapes: StreamShapes) -> HTTPRouteHandler:
    names = tuple(shapes.fields)
    params = (DEVICES, fields_param(names), TZ, LATEST_LIMIT, LATEST_AFTER)

    async def latest(request: Request[Any, Any, Any]) -> msgspec.Struct | Response[Any]:
        query = read_params(request.query_params.dict(), params)
        media_type = media_type_of(request)
        readings = await live.latest(shapes.stream, query["device_id"])
        readings, following = _page_of_devices(readings, query["after"], query["limit"])
        shown, now = readings_in_zone(readings, query["tz"]), datetime.now(UTC)
        chosen = query["fields"] or names
        table = newest_table(shapes, shown, chosen, now)
        headers = {"Cache-Control": "private, no-store", **format_headers(media_type, table)}
        headers |= link_headers(request, following)
        if media_type == JSON:
            return Response(shapes.show_latest(shown, chosen, now, following), headers=headers)
        body = await in_thread(lambda: table.body(media_type))
        return Response(body, media_type=media_type, headers=headers)

    # The answer's type is made from the declaration; OpenAPI reads it here.
    latest.__annotations__["return"] = shapes.latest_answer
    return get(
        "/latest",
        summary="Each device's newest reading and its age",
        description=IN_FORMATS,
        operation_class=operation_of(params, tables=True),
        responses={**PROBLEMS, **NOT_ACCEPTABLE},
    )(latest)


def _page_of_devices(
    readings: list[Reading], after: str | None, limit: int
) -> tuple[list[Reading], str | None]:
    """A page of readings that come by device, and what the next one begins after."""
    first = 0 if after is None else bisect_right(readings, after, key=lambda one: one.device_id)
    page = readings[first : first + limit]
    return page, page[-1].device_id if first + limit < len(readings) else None


def _raw_route(live: LiveService, shapes: StreamShapes) -> HTTPRouteHandler:
    names = tuple(shapes.fields)
    household = ZoneInfo(live.settings.timezone)

    def params_of(zone: tzinfo) -> tuple[Param, ...]:
        return (*range_params(zone), DEVICES, fields_param(names), TZ, LIMIT, AFTER)

    read = zoned_reader(household, params_of)

    async def raw(request: Request[Any, Any, Any]) -> Response[Any]:
        query = read(request.query_params.dict())
        check_range(query["start"], query["end"], LONGEST_RAW)
        media_type = media_type_of(request)
        readings = await live.history.raw(
            shapes.stream,
            query["start"],
            query["end"],
            limit=query["limit"],
            device_ids=query["device_id"],
            after=query["after"],
        )
        following = None
        if len(readings) == query["limit"]:
            following = write_cursor(readings[-1].device_id, readings[-1].timestamp)
        shown, chosen = readings_in_zone(readings, query["tz"]), query["fields"] or names
        etag = etag_of("raw", str(request.url.query), digest_of(readings), media_type)
        return await tagged(
            request,
            etag,
            media_type,
            body=lambda: [msgspec.json.encode(shapes.show_raw(shown, chosen, following))],
            table=readings_table(shapes, shown, chosen),
            following=following,
        )

    raw.__annotations__["return"] = shapes.raw_answer
    return get(
        "/raw",
        summary="The readings of a range, oldest first, the archived ones as well",
        description=IN_FORMATS,
        operation_class=operation_of(params_of(household), tables=True, tagged=True),
        responses={**PROBLEMS, **NOT_ACCEPTABLE, **NOT_MODIFIED},
    )(raw)
