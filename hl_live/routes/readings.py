"""REST routes of the streams, made from their declarations."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from hl_live.hours import plan_hours
from hl_live.params import DEVICES, END, LIMIT, START, check_range, operation_of, read_params
from hl_live.problems import PROBLEM_JSON, Problem, UnknownStreamError
from hl_live.schemas import Bucket, HourlyAnswer, StreamsAnswer, StreamShapes, describe_streams
from hl_live.service import LiveService
from hl_platform.core.streams import Stream

# Computed from raw rows: a month of a meter's seconds takes the database a few seconds.
MAX_HOURLY = timedelta(days=31)
# Of a sum of kWh: hides what floating point adds, far below what a meter can tell.
DIGITS = 9

PROBLEMS: Mapping[int, ResponseSpec] = {
    400: ResponseSpec(
        Problem, generate_examples=False, description="A parameter is not allowed", media_type=PROBLEM_JSON
    ),
    503: ResponseSpec(
        Problem, generate_examples=False, description="The database is away", media_type=PROBLEM_JSON
    ),
}


def readings_router(live: LiveService) -> Router:
    """Everything under /api/v1 that concerns streams."""
    routers = [_stream_router(live, stream) for stream in live.streams.values()]
    return Router("/api/v1", route_handlers=[_streams_route(live), _unknown_stream_route(live), *routers])


def _streams_route(live: LiveService) -> HTTPRouteHandler:
    answer = describe_streams(list(live.streams.values()))

    @get("/streams", tags=["streams"], operation_class=operation_of(()), summary="The declared streams")
    async def streams(request: Request[Any, Any, Any]) -> StreamsAnswer:
        read_params(request.query_params.dict(), ())
        return answer

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
    handlers = [_latest_route(live, shapes), _raw_route(live, shapes)]
    if (fields := meter_fields(stream)) is not None:
        handlers.append(_hourly_route(live, stream, *fields))
    return Router(f"/{stream.name}", route_handlers=handlers, tags=[stream.name])


def meter_fields(stream: Stream) -> tuple[str, str] | None:
    """The counter in kWh and the gauge in kW of a stream of meters; None for other streams."""
    counters = [field.name for field in stream.fields if (field.kind, field.unit) == ("counter", "kWh")]
    gauges = [field.name for field in stream.fields if (field.kind, field.unit) == ("gauge", "kW")]
    return (counters[0], gauges[0]) if counters and gauges else None


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
    params = (START, END, DEVICES, LIMIT)

    async def raw(request: Request[Any, Any, Any]) -> msgspec.Struct:
        query = read_params(request.query_params.dict(), params)
        check_range(query["start"], query["end"])
        readings = await live.queries.raw(
            shapes.stream,
            query["start"],
            query["end"],
            limit=query["limit"],
            device_ids=query["device_id"],
        )
        return shapes.show_raw(readings)

    raw.__annotations__["return"] = shapes.raw_answer
    return get(
        "/raw",
        summary="The readings of a range, oldest first",
        operation_class=operation_of(params),
        responses=PROBLEMS,
    )(raw)


def _hourly_route(live: LiveService, stream: Stream, counter: str, power: str) -> HTTPRouteHandler:
    params = (START, END, DEVICES)
    zone = ZoneInfo(live.settings.timezone)

    @get(
        "/hourly",
        summary="Consumption and power by hour",
        operation_class=operation_of(params),
        responses=PROBLEMS,
    )
    async def hourly(request: Request[Any, Any, Any]) -> HourlyAnswer:
        query = read_params(request.query_params.dict(), params)
        start, end = query["start"], query["end"]
        check_range(start, end, MAX_HOURLY)
        edges = plan_hours(start, end, zone)
        rows = await live.queries.consumption(stream, counter, power, edges, query["device_id"])
        now = datetime.now(UTC)
        buckets = [
            Bucket(
                device_id=row.device_id,
                start=edges[row.bucket],
                end=edges[row.bucket + 1],
                consumption_kwh=round(row.consumption, DIGITS),
                mean_power_kw=None if row.mean_power is None else round(row.mean_power, DIGITS),
                min_power_kw=row.min_power,
                max_power_kw=row.max_power,
                n_readings=row.n_readings,
                provisional=edges[row.bucket + 1] > now,
            )
            for row in rows
        ]
        return HourlyAnswer(stream=stream.name, start=edges[0], end=edges[-1], buckets=buckets)

    return hourly
