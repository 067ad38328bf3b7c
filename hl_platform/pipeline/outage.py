"""Says that something is away: at once, then every half minute, and when it is over; not at every try."""

from collections.abc import Callable
from datetime import datetime

import structlog

from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import DatabaseAwayError, TransientError

log = structlog.get_logger()

SAY_AGAIN_AFTER_S = 30.0


class Outage:
    """What a stream waits for, in the log and as an alert while it lasts.

    Args:
        stream: that waits.
        stats: takes the alert `database_away` or `kafka_away`.
        now: the time, aware.
    """

    def __init__(self, stream: str, stats: StageStats, now: Callable[[], datetime]) -> None:
        self._stream = stream
        self._stats = stats
        self._now = now
        self._since: datetime | None = None
        self._said_at: datetime | None = None
        self._n_tries = 0

    def met(self, error: TransientError) -> None:
        """Call after every try that failed."""
        now = self._now()
        self._since = self._since or now
        self._n_tries += 1
        if self._said_at is not None and (now - self._said_at).total_seconds() < SAY_AGAIN_AFTER_S:
            return
        self._said_at = now
        code, name = (
            ("database_away", "PostgreSQL")
            if isinstance(error, DatabaseAwayError)
            else ("kafka_away", "Kafka")
        )
        log.warning(
            code, stream=self._stream, n_tries=self._n_tries, since=self._since.isoformat(), error=str(error)
        )
        message = (
            f"{name} is away, or cannot write, since {self._since:%Y-%m-%d %H:%M:%S} UTC: {error}. "
            "What was read waits, Kafka keeps the rest, and work goes on by itself."
        )
        self._stats.alert(self._stream, code, message)

    def over(self) -> None:
        """Call after every try that succeeded."""
        if self._since is None:
            return
        lasted_s = round((self._now() - self._since).total_seconds(), 1)
        log.info("outage_over", stream=self._stream, n_tries=self._n_tries, lasted_s=lasted_s)
        for code in ("database_away", "kafka_away"):
            self._stats.clear_alert(self._stream, code)
        self._since, self._said_at, self._n_tries = None, None, 0
