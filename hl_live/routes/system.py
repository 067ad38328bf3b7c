"""Routes about the service itself."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from hl_live.health import check_health
from hl_live.params import operation_of, read_params
from hl_live.schemas import Health
from hl_live.service import LiveService


def health_route(live: LiveService) -> HTTPRouteHandler:
    """`/health`: always 200 while the service can answer; the body says what is degraded."""

    @get("/health", tags=["system"], operation_class=operation_of(()), summary="Whether all is well")
    async def health(request: Request[Any, Any, Any]) -> Health:
        read_params(request.query_params.dict(), ())
        return await check_health(live)

    return health
