"""Which devices say that they are there, read from the database at most once a second."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from hl_live.threads import in_thread
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.presence import Key, Presence, read_presence
from hl_platform.core.errors import HlError

log = structlog.get_logger()

FRESH_S = 1.0
PATIENT = {"statement_timeout": "3s"}


class PresenceReader:
    """What was last known stays known while the database is away.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = asyncio.Lock()
        self._known: Mapping[Key, Presence] = {}
        self._read_at = float("-inf")

    async def read(self) -> Mapping[Key, Presence]:
        """Presence by (stream, device), of devices that tell it."""
        async with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                try:
                    self._known = await in_thread(self._read)
                except HlError as exc:
                    log.warning("presence_not_read", error=str(exc))
                self._read_at = time.monotonic()
            return self._known

    def _read(self) -> Mapping[Key, Presence]:
        with connect(self._url, application_name="hl-live-presence", parameters=PATIENT) as conn:
            return read_presence(conn)
