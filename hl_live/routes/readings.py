"""REST routes of the streams, made from their declarations."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from hl_live.auth.access import ANY, grant_of
from hl_live.csv_text import CSV, IN_CSV, JSON, csv_of, media_type_of
from hl_live.params import DEVICES, LIMIT, check_range, operation_of, range_params, read_params
from hl_live.problems import PROBLEMS, UnknownStreamError
from hl_live.routes.buckets import bucket_routes
from hl_live.routes.cost import cost_route
from hl_live.schemas import StreamsAnswer, StreamShapes, describe_streams
from hl_live.service import LiveService
from hl_live.threads import in_thread
from hl_platform.core.streams import Stream


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
    params = (DEVICES,)

    async def latest(request: Request[Any, Any, Any]) -> msgspec.Struct:
        query = read_params(request.query_params.dict(), params)
        readings = await live.latest(shapes.stream, query["device_id"])
        return shapes.show_latest(readings, datetime.now(UTC))

    # The answer's type is made from the declaration; OpenAPI reads it here.
    latest.__annotations__["return"] = shapes.latest_answer
    return get(
        "/latest",
        summary="Each device's newest reading and its age",
        operation_class=operation_of(params),
        responses=PROBLEMS,
    )(latest)


def _raw_route(live: LiveService, shapes: StreamShapes) -> HTTPRouteHandler:
    params = (*range_params(ZoneInfo(live.settings.timezone)), DEVICES, LIMIT)

    async def raw(request: Request[Any, Any, Any]) -> msgspec.Struct | Response[bytes]:
        query = read_params(request.query_params.dict(), params)
        check_range(query["start"], query["end"])
        readings = await live.history.raw(
            shapes.stream,
            query["start"],
            query["end"],
            limit=query["limit"],
            device_ids=query["device_id"],
        )
        if media_type_of(request) == JSON:
            return shapes.show_raw(readings)
        text = await in_thread(lambda: csv_of(shapes.names, map(shapes.cells, readings)))
        return Response(text, media_type=CSV)

    raw.__annotations__["return"] = shapes.raw_answer
    return get(
        "/raw",
        summary="The readings of a range, oldest first, the archived ones as well",
        description=IN_CSV,
        operation_class=operation_of(params),
        responses=PROBLEMS,
    )(raw)
