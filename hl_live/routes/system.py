"""Routes about the service itself and the pipeline before it."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from hl_live.health import check_health
from hl_live.params import operation_of, read_params
from hl_live.pipeline import PipelineView
from hl_live.problems import PROBLEMS
from hl_live.schemas import Health
from hl_live.service import LiveService


def system_routes(live: LiveService) -> list[HTTPRouteHandler]:
    """`/health` and `/api/v1/pipeline`."""

    # Always 200 while the service can answer; the body says what is degraded.
    @get("/health", tags=["system"], operation_class=operation_of(()), summary="Whether all is well")
    async def health(request: Request[Any, Any, Any]) -> Health:
        read_params(request.query_params.dict(), ())
        return await check_health(live)

    @get(
        "/api/v1/pipeline",
        tags=["system"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="What every stage has counted, how far behind and how quick it is",
    )
    async def pipeline(request: Request[Any, Any, Any]) -> PipelineView:
        read_params(request.query_params.dict(), ())
        return await live.pipeline.read()

    return [health, pipeline]
