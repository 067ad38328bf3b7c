"""Blocking work beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from hl_platform.core.errors import BackpressureError

T = TypeVar("T")

# Each may have a connection to the database, which has 80 for all of hl, and a DuckDB of 256 MB.
MAX_AT_ONCE = 4
# A request that has waited this long for its turn is better told to come again.
TURN_WAIT_S = 5.0


async def in_thread(work: Callable[[], T]) -> T:
    """The result of blocking work, from a thread that the end of the process does not wait for.

    The loop's own executor would be waited for, and a server that is away can block for many seconds.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type] # T may be None itself

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except Exception as exc:  # noqa: BLE001 - raised again where it is awaited
            error = exc
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            # The loop has been closed: nobody waits any more.
            return

    threading.Thread(target=run, daemon=True).start()
    return await result


class BoundedThreads:
    """Blocking work of requests, MAX_AT_ONCE at a time, however many ask."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_AT_ONCE)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of blocking work, from a thread.

        Raises:
            BackpressureError: there was no room for it.
        """
        try:
            async with asyncio.timeout(TURN_WAIT_S):
                await self._free.acquire()
        except TimeoutError as exc:
            msg = f"{MAX_AT_ONCE} requests are at work, none of which ended within {TURN_WAIT_S:g} s."
            raise BackpressureError(msg, retry_after_s=TURN_WAIT_S) from exc
        running = asyncio.ensure_future(in_thread(work))
        # Not when a client leaves: its thread goes on.
        running.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(running)
