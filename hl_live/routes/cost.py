"""`/api/v1/energy/cost`: what energy costs, by hour, day or month."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Meta

from hl_live.buckets import KEY_COLUMNS, encode_rows
from hl_live.csv_text import objects_of
from hl_live.formats import IN_FORMATS, Table, media_type_of
from hl_live.params import (
    AFTER,
    BUCKET_LIMIT,
    DEVICES,
    TZ,
    Param,
    check_range,
    operation_of,
    range_params,
    write_cursor,
)
from hl_live.problems import NOT_ACCEPTABLE, PROBLEMS
from hl_live.routes.buckets import LONGEST
from hl_live.service import LiveService
from hl_live.tagged import NOT_MODIFIED, etag_of, json_around, tagged
from hl_live.zones import check_zone, in_zone, row_in_zone, zoned_reader
from hl_platform.adapters.files.parquet_bytes import Column
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.core.levels import ADVERBS, Grain

GRAINS_OF_COST: Mapping[str, Grain] = {"hour": "hour", "day": "day", "month": "month"}
KEY = tuple(column for column in KEY_COLUMNS if column.name in ("device_id", "start", "end", "provisional"))
HOURLY = (
    ("consumption_kwh", "float8"),
    ("cost", "float8"),
    ("currency", "text"),
    ("tariff", "text"),
    ("price_per_kwh", "float8"),
)
LONGER = (
    ("consumption_kwh", "float8"),
    ("cost", "float8"),
    ("currency", "text"),
    ("priced_kwh", "float8"),
    ("n_hours", "int8"),
    ("n_hours_without_price", "int8"),
    ("energy_cost", "float8"),
    ("standing_charge", "float8"),
)


def _grain(text: str) -> Grain:
    if text not in GRAINS_OF_COST:
        raise ValueError(text)
    return GRAINS_OF_COST[text]


PER = Param(
    "per",
    "How long a bucket is; `day` unless given.",
    Schema(type=OpenAPIType.STRING, enum=list(GRAINS_OF_COST), default="day"),
    _grain,
    "hour, day or month",
    default="day",
)


class CostBucket(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one meter's energy costs in one bucket. What an hour or a day does not have is left out.

    Args:
        cost: with the standing charge in days and months; null where no price is known, or several currencies are.
        tariff, price_per_kwh: of an hour.
        priced_kwh: of a day or month, the part of the consumption whose price is known.
        n_hours, n_hours_without_price: of a day or month, hours that something is known of, and those of them
            that are not in the cost.
        energy_cost, standing_charge: of a day or month, the parts of the cost.
    """

    device_id: str
    start: datetime
    end: datetime
    provisional: Annotated[bool, Meta(description="The bucket ends in the future")]
    consumption_kwh: float | None
    cost: float | None
    currency: str | None
    tariff: str | None = None
    price_per_kwh: float | None = None
    priced_kwh: float | None = None
    n_hours: int | None = None
    n_hours_without_price: int | None = None
    energy_cost: float | None = None
    standing_charge: float | None = None


class CostAnswer(msgspec.Struct, frozen=True):
    """What energy costs, by device and begin.

    Args:
        per: hour, day or month.
        next: give it as `after` for the next page; null after the last.
    """

    per: str
    start: datetime
    end: datetime
    buckets: list[CostBucket]
    next: str | None


def cost_route(live: LiveService) -> HTTPRouteHandler:
    """`/cost` of the energy meters."""
    household = ZoneInfo(live.settings.timezone)

    def params_of(zone: tzinfo) -> tuple[Param, ...]:
        return (*range_params(zone), PER, DEVICES, TZ, BUCKET_LIMIT, AFTER)

    read = zoned_reader(household, params_of)

    async def cost(request: Request[Any, Any, Any]) -> Response[Any]:
        query = read(request.query_params.dict())
        grain, start, end, zone = (query[name] for name in ("per", "start", "end", "tz"))
        check_range(start, end, LONGEST[grain])
        check_zone(grain, start, end, zone, household)
        media_type = media_type_of(request)
        selection = _selection(query)
        rows = await live.queries.costs(selection)
        following = write_cursor(rows[-1][0], rows[-1][1]) if len(rows) == query["limit"] else None
        make = _maker(selection)
        parts = await encode_rows(row_in_zone(zone, make) if zone else make, rows)

        def body() -> list[bytes]:
            shown = CostAnswer(grain, in_zone(start, zone), in_zone(end, zone), [], following)
            return json_around(shown, "buckets", parts)

        etag = etag_of("cost", str(request.url.query), start, parts, media_type)
        table = _table(selection, parts)
        return await tagged(request, etag, media_type, body=body, table=table, following=following)

    # What OpenAPI shows as the answer.
    cost.__annotations__["return"] = CostAnswer
    return get(
        "/cost",
        summary="What energy costs",
        description=IN_FORMATS,
        operation_class=operation_of(params_of(household), tables=True, tagged=True),
        responses={**PROBLEMS, **NOT_ACCEPTABLE, **NOT_MODIFIED},
    )(cost)


def _selection(query: dict[str, Any]) -> BucketSelection:
    grain: Grain = query["per"]
    return BucketSelection(
        model=f"energy_cost_{ADVERBS[grain]}",
        grain=grain,
        columns=HOURLY if grain == "hour" else LONGER,
        start=query["start"],
        end=query["end"],
        limit=query["limit"],
        device_ids=query["device_id"],
        after=query["after"],
    )


def _maker(selection: BucketSelection) -> Callable[..., CostBucket]:
    names = (*(column.name for column in KEY), *(name for name, _ in selection.columns))
    return lambda *row: CostBucket(**dict(zip(names, row, strict=True)))


def _table(selection: BucketSelection, parts: Sequence[bytes]) -> Table:
    columns = (*KEY, *(Column(*column) for column in selection.columns))
    names = [column.name for column in columns]
    return Table(selection.model.replace("_", "-"), columns, lambda: objects_of(names, parts))
