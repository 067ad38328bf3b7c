"""Routes about the service itself and the pipeline before it."""

from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from hl_live.health import check_alive, check_health, check_ready
from hl_live.metrics import CONTENT_TYPE
from hl_live.params import operation_of, read_params
from hl_live.pipeline import PipelineView
from hl_live.problems import PROBLEMS
from hl_live.schemas import Health
from hl_live.service import LiveService
from hl_platform.core.access import READ_PIPELINE

# A service that is not well says so with its status.
ITS_HEALTH = {
    **PROBLEMS,
    HTTP_503_SERVICE_UNAVAILABLE: ResponseSpec(Health, generate_examples=False, description="It is not"),
}


def system_routes(live: LiveService) -> list[HTTPRouteHandler]:
    """`/health`, `/health/live`, `/health/ready`, `/metrics` and `/api/v1/pipeline`."""

    # Always 200 while the service can answer; the body says what is degraded.
    @get(
        "/health",
        tags=["system"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="Whether all is well",
        opt={"access": READ_PIPELINE},
    )
    async def health(request: Request[Any, Any, Any]) -> Health:
        read_params(request.query_params.dict(), ())
        return await check_health(live)

    @get(
        "/health/live",
        tags=["system"],
        operation_class=operation_of(()),
        responses=ITS_HEALTH,
        summary="Whether a restart is needed",
        opt={"access": READ_PIPELINE},
    )
    async def alive(request: Request[Any, Any, Any]) -> Response[Health]:
        read_params(request.query_params.dict(), ())
        return _answer(check_alive(live))

    @get(
        "/health/ready",
        tags=["system"],
        operation_class=operation_of(()),
        responses=ITS_HEALTH,
        summary="Whether it can serve now",
        opt={"access": READ_PIPELINE},
    )
    async def ready(request: Request[Any, Any, Any]) -> Response[Health]:
        read_params(request.query_params.dict(), ())
        return _answer(await check_ready(live))

    # Not in the schema: its answer is Prometheus' own format.
    @get("/metrics", include_in_schema=False, opt={"access": READ_PIPELINE})
    async def metrics() -> Response[bytes]:
        return Response(await live.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @get(
        "/api/v1/pipeline",
        tags=["system"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="What every stage has counted, how far behind and how quick it is",
        opt={"access": READ_PIPELINE},
    )
    async def pipeline(request: Request[Any, Any, Any]) -> PipelineView:
        read_params(request.query_params.dict(), ())
        return await live.pipeline.read()

    return [health, alive, ready, metrics, pipeline]


def _answer(health: Health) -> Response[Health]:
    status = HTTP_200_OK if health.status == "ok" else HTTP_503_SERVICE_UNAVAILABLE
    return Response(health, status_code=status)
