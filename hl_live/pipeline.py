"""What flows through all stages, as `hl status` shows it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from hl_live.threads import in_thread
from hl_platform.adapters.kafka.feed_reader import KAFKA_SILENT_S, FeedState, lag_of
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import PipelineStatus, read_status

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
    """A delay from the device over the last minutes in milliseconds; null when nothing was measured.

    Args:
        budget: how long it may be.
    """

    p50: float | None
    p99: float | None
    max: float | None
    budget: float


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What the last comparison of the accounts found of one stream at one stage.

    Args:
        n_records: by how many they differ; 0 when they balance.
        balanced_at: when they balanced last; null if they do, or never did.
        found_at: when the difference was first found.
    """

    stream: str
    stage: str
    n_records: int
    explanation: str
    compared_at: datetime
    balanced_at: datetime | None
    found_at: datetime | None


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """What a service says that a person should know.

    Args:
        stream: whose condition it is; empty if the whole service's.
        text: what it is and what helps.
        is_of_the_dead: whether the service has ended since.
    """

    service: str
    stream: str
    code: str
    text: str
    since: datetime
    is_of_the_dead: bool


class PipelineView(msgspec.Struct, frozen=True, kw_only=True):
    """All stages; lag is in records by consumer group, and null while Kafka does not tell."""

    stages: list[StageView]
    lag: dict[str, int] | None
    delay_ms: dict[str, DelayView]
    balances: list[BalanceView]
    alerts: list[AlertView]


class PipelineReader:
    """Reads the view at most once a second, however many ask.

    Args:
        url: of the database.
        groups: by Kafka topic, the group under which the feed shows its position.
        feed: what the feed's reader knows now.
    """

    def __init__(self, url: str, groups: Mapping[str, str], feed: Callable[[], FeedState]) -> None:
        self._url = url
        self._groups = groups
        self._feed = feed
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
                status = await in_thread(self._read_status)
                lag = plan_lag(status.next_offsets, self._feed(), self._groups)
                document = {**status.document(lag or {}), "lag": lag}
                self._known, self._read_at = msgspec.convert(document, PipelineView), time.monotonic()
            return self._known

    def _read_status(self) -> PipelineStatus:
        with connect(self._url, application_name="hl-live-status") as conn:
            return read_status(conn)


def plan_lag(
    next_offsets: Mapping[tuple[str, str, int], int], feed: FeedState, groups: Mapping[str, str]
) -> dict[str, int] | None:
    """Records that each consumer group has still to read; None while Kafka does not tell where topics end.

    The ends are those that the feed's own reading is told, so that no request to Kafka is needed.

    Args:
        next_offsets: of the sinks, by (consumer group, Kafka topic, Kafka partition).
        feed: positions of the feed, and the ends.
        groups: by Kafka topic, the feed's group.
    """
    if feed.contact_age_s is None or feed.contact_age_s > KAFKA_SILENT_S:
        return None
    positions: dict[str, dict[tuple[str, int], int]] = {}
    for (group, kafka_topic, number), offset in next_offsets.items():
        positions.setdefault(group, {})[kafka_topic, number] = offset
    for place, offset in feed.positions.items():
        positions.setdefault(groups[place[0]], {})[place] = offset
    return {group: lag_of(places, feed.ends) for group, places in sorted(positions.items())}
