"""`/api/v1/energy/cost`: what energy costs, by hour, day or month."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Meta

from hl_live.buckets import encode_rows
from hl_live.params import (
    AFTER,
    BUCKET_LIMIT,
    DEVICES,
    Param,
    check_range,
    operation_of,
    range_params,
    read_params,
    write_cursor,
)
from hl_live.problems import PROBLEMS
from hl_live.routes.buckets import LONGEST
from hl_live.service import LiveService
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.core.levels import ADVERBS, Grain

GRAINS_OF_COST: Mapping[str, Grain] = {"hour": "hour", "day": "day", "month": "month"}
KEY = ("device_id", "start", "end", "provisional")
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
    params = (*range_params(ZoneInfo(live.settings.timezone)), PER, DEVICES, BUCKET_LIMIT, AFTER)

    @get("/cost", summary="What energy costs", operation_class=operation_of(params), responses=PROBLEMS)
    async def cost(request: Request[Any, Any, Any]) -> CostAnswer:
        query = read_params(request.query_params.dict(), params)
        grain: Grain = query["per"]
        check_range(query["start"], query["end"], LONGEST[grain])
        selection = BucketSelection(
            model=f"energy_cost_{ADVERBS[grain]}",
            grain=grain,
            columns=HOURLY if grain == "hour" else LONGER,
            start=query["start"],
            end=query["end"],
            limit=query["limit"],
            device_ids=query["device_id"],
            after=query["after"],
        )
        rows = await live.queries.costs(selection)
        following = write_cursor(rows[-1][0], rows[-1][1]) if len(rows) == query["limit"] else None
        names = (*KEY, *(name for name, _ in selection.columns))
        encoded: Any = await encode_rows(lambda *row: CostBucket(**dict(zip(names, row, strict=True))), rows)
        return CostAnswer(grain, query["start"], query["end"], encoded, following)

    return cost
