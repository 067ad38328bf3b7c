"""Runs the application on an ASGI server."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from litestar import Litestar
from litestar.types import ASGIApp

from hl_live.access_log import AccessLog
from hl_live.guard import listed
from hl_live.request_traces import RequestTraces
from hl_live.routes.feed import MAX_INPUT_BYTES
from hl_live.write_guard import guarded_protocols
from hl_platform.adapters.tracing import Tracing
from hl_platform.core.live_sections import LiveSettings

# What is left of two seconds when the service itself needs one to stop.
GRACE_S = 0.6


def serve(app: Litestar, live: LiveSettings, tracing: Tracing | None = None) -> None:
    """Serves until SIGINT or SIGTERM, then ends within two seconds, clients or not."""
    traced: ASGIApp = app if tracing is None else RequestTraces(app, tracing)
    proxies = listed(live.trusted_proxies)
    config = uvicorn.Config(
        AccessLog(traced, live.access_log),
        host=live.host,
        port=live.port,
        lifespan="on",
        # They wait for a slow client's socket, which is what has it conflated, and end one that never reads again.
        **guarded_protocols(live.write_timeout_s),
        # A slow client answers a ping when it has read what was before it; one that is gone is found by the guard.
        ws_ping_timeout=None,
        ws_max_size=MAX_INPUT_BYTES,
        # Frames are small and the machine is the same; compressing each costs more than it saves.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,  # type: ignore[arg-type] # handed to asyncio, which takes fractions
        # Ours is hl_live/access_log.py.
        access_log=False,
        log_config=None,
        # Else any program of this machine could be counted as whoever it says it is.
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
    )
    uvloop.run(_Server(config).serve())


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal, where uvicorn would raise it once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
