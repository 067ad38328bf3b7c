"""The ASGI application: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar

from hl_live.auth.access import Access
from hl_live.auth.configured import check_configured
from hl_live.auth.gate import Gate
from hl_live.chunks import PartCache
from hl_live.guard import MAX_REQUEST_BYTES, add_headers, cors_of
from hl_live.problems import answer_problem
from hl_live.routes.asyncapi import asyncapi_route
from hl_live.routes.dead_letters import dead_letters_route
from hl_live.routes.devices import devices_route
from hl_live.routes.docs import openapi_config
from hl_live.routes.feed import feed_routes
from hl_live.routes.feed_events import feed_events_route
from hl_live.routes.page import DIST, page_routes
from hl_live.routes.readings import readings_router
from hl_live.routes.replays import replay_routes
from hl_live.routes.system import system_routes
from hl_live.routes.ticket import ticket_route
from hl_live.service import LiveService
from hl_platform.adapters.tracing import Tracing
from hl_platform.core.settings import Settings
from hl_platform.streams import load_streams


def create_app(
    settings: Settings,
    page_folder: Path = DIST,
    parts: PartCache | None = None,
    tracing: Tracing | None = None,
) -> Litestar:
    """The live service as an ASGI application; it begins its work at ASGI's start-up.

    Args:
        settings: with the addresses of Kafka and the database.
        page_folder: the built page.
        parts: where parts of answers are kept; one of the usual size unless given.
        tracing: where spans of readings go that carry a trace.

    Raises:
        ConfigError: an address is missing or a declaration is wrong, or others could reach the service
            without a token.
    """
    check_configured(settings)
    gate = Gate(settings)
    parts = PartCache() if parts is None else parts
    live = LiveService(settings, load_streams(settings.streams_dir), parts, tracing)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await gate.start()
        await live.start()
        try:
            yield
        finally:
            await live.stop()
            await gate.stop()

    return Litestar(
        route_handlers=[
            readings_router(live),
            *system_routes(live),
            devices_route(live),
            dead_letters_route(live),
            *replay_routes(live),
            ticket_route(gate),
            *feed_routes(live),
            feed_events_route(live),
            asyncapi_route(),
            *page_routes(page_folder),
        ],
        lifespan=[lifespan],
        middleware=[lambda app: Access(app, gate)],
        cors_config=cors_of(settings.live),
        before_send=[add_headers],
        exception_handlers={Exception: answer_problem},
        openapi_config=openapi_config(asks=gate.asks),
        request_max_body_size=MAX_REQUEST_BYTES,
        logging_config=None,
    )
