"""What flows through all stages, as `hl status` shows it."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog

from hl_live.threads import in_thread
from hl_platform.adapters.kafka.lag import LagReader
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import PipelineStatus, read_status
from hl_platform.core.errors import TransientError
from hl_platform.core.settings import Settings
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Stages write about twice a second; asking more often than this would only cost.
FRESH_S = 1.0


class StageView(msgspec.Struct, frozen=True, kw_only=True):
    """Readings counted by one stage; received is the sum of all the others."""

    name: str
    received: int
    forwarded: int
    dead_lettered: int
    duplicates: int
    corrected: int
    dropped: int
    in_flight: int


class DelayView(msgspec.Struct, frozen=True, kw_only=True):
    """A delay over the last minutes in milliseconds; null when nothing was measured."""

    p50: float | None
    p99: float | None
    max: float | None


class PipelineView(msgspec.Struct, frozen=True, kw_only=True):
    """All stages; lag is in records by consumer group, and null while Kafka does not tell."""

    stages: list[StageView]
    lag: dict[str, int] | None
    delay_ms: dict[str, DelayView]


class PipelineReader:
    """Reads the view at most once a second, however many ask.

    Args:
        url: of the database.
        settings: where Kafka is.
        streams: whose groups are looked at.
    """

    def __init__(self, url: str, settings: Settings, streams: Iterable[Stream]) -> None:
        self._url = url
        self._settings = settings
        self._streams = list(streams)
        self._lag_reader: LagReader | None = None
        self._lock = asyncio.Lock()
        self._known: PipelineView | None = None
        self._read_at = 0.0

    async def read(self) -> PipelineView:
        """The view, at most a second old.

        Raises:
            TransientError: the database is away.
        """
        async with self._lock:
            if self._known is None or time.monotonic() - self._read_at > FRESH_S:
                document = await in_thread(self._read)
                self._known, self._read_at = msgspec.convert(document, PipelineView), time.monotonic()
            return self._known

    def _read(self) -> dict[str, Any]:
        with connect(self._url, application_name="hl-live-status") as conn:
            status = read_status(conn)
        lag = self._read_lag(status)
        return {**status.document(lag or {}), "lag": lag}

    def _read_lag(self, status: PipelineStatus) -> dict[str, int] | None:
        try:
            if self._lag_reader is None:
                self._lag_reader = LagReader(self._settings.kafka, self._streams)
            return self._lag_reader.read(status.next_offsets)
        except TransientError as exc:
            log.warning("lag_unknown", error=str(exc))
            return None
