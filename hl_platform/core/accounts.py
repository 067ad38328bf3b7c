"""What a stage counts: readings in and out, and how long they took."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime

from hl_platform.core.histogram import DelayHistogram


@dataclass(slots=True)
class Account:
    """The readings of one stream in one service.

    Guarantee: received = forwarded + dead_lettered + duplicates + corrected + dropped + in_flight.
    """

    received: int = 0
    forwarded: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    corrected: int = 0
    dropped: int = 0
    last_reading_at: datetime | None = None

    @property
    def in_flight(self) -> int:
        """Received and not yet accounted for."""
        settled = self.forwarded + self.dead_lettered + self.duplicates + self.corrected + self.dropped
        return self.received - settled


@dataclass(slots=True)
class StageStats:
    """Accounts by stream and delays by measure; any thread may count.

    Args:
        accounts: since this process started, by stream.
        alerts: what a person should know now, by (stream, code); an empty stream means all of them.
    """

    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    alerts: dict[tuple[str, str], str] = field(default_factory=dict)
    _delays: dict[str, DelayHistogram] = field(default_factory=lambda: defaultdict(DelayHistogram))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(
        self,
        stream: str,
        *,
        received: int = 0,
        forwarded: int = 0,
        dead_lettered: int = 0,
        duplicates: int = 0,
        corrected: int = 0,
        dropped: int = 0,
        last_reading_at: datetime | None = None,
    ) -> None:
        """Adds to a stream's account, all at once."""
        with self._lock:
            account = self.accounts[stream]
            account.received += received
            account.forwarded += forwarded
            account.dead_lettered += dead_lettered
            account.duplicates += duplicates
            account.corrected += corrected
            account.dropped += dropped
            account.last_reading_at = last_reading_at or account.last_reading_at

    def delay(self, measure: str, delay_ms: float, n: int = 1) -> None:
        """Counts a delay in milliseconds under `device_to_kafka`, `device_to_row` or `device_to_frame`."""
        with self._lock:
            self._delays[measure].add(delay_ms, n)

    def alert(self, stream: str, code: str, message: str) -> None:
        """Raises an alert or changes its text.

        Args:
            stream: whose, or empty.
            code: constant snake_case name of the condition.
            message: for a person: what it is, and what helps.
        """
        with self._lock:
            self.alerts[stream, code] = message

    def clear_alert(self, stream: str, code: str) -> None:
        """Ends an alert, if there is one."""
        with self._lock:
            self.alerts.pop((stream, code), None)

    def snapshot(self) -> dict[str, Account]:
        """A copy of the accounts, consistent with itself."""
        with self._lock:
            return {stream: replace(account) for stream, account in self.accounts.items()}

    def take_delays(self) -> dict[str, DelayHistogram]:
        """The delays since the last call; the caller owns them now."""
        with self._lock:
            taken = dict(self._delays)
            self._delays.clear()
            return taken
