"""What a stage counts: readings in and out, and how long they took."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from hl_platform.core.coverage import FORWARDED, Covered, Place
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


class Books(NamedTuple):
    """Accounts and the offsets they cover, at one moment.

    Args:
        accounts: by stream.
        covered: what of them is known to be on Kafka, by place.
    """

    accounts: dict[str, Account]
    covered: dict[Place, Covered]


@dataclass(slots=True)
class StageStats:
    """Accounts by stream and delays by measure; any thread may count.

    Args:
        accounts: since this process started, by stream.
        alerts: what a person should know now, by (stream, code); an empty stream means all of them.
    """

    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    alerts: dict[tuple[str, str], str] = field(default_factory=dict)
    _covered: dict[Place, Covered] = field(default_factory=dict)
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

    def cover(self, place: Place, covered: Covered, *, received: int = 0) -> None:
        """Counts records that Kafka has, and where they end: both at once, so that a heartbeat finds both or neither.

        Args:
            place: where they are, and what they count as.
            covered: how many, and the offset after the last of them.
            received: how many of them were not counted as received yet.
        """
        with self._lock:
            account = self.accounts[place.stream]
            account.received += received
            if place.kind == FORWARDED:
                account.forwarded += covered.n_records
            else:
                account.dead_lettered += covered.n_records
            self._covered[place] = self._covered.get(place, Covered()).then(covered)

    def delay(self, measure: str, delay_ms: float, n: int = 1) -> None:
        """Counts a delay in milliseconds under `device_to_mqtt`, `…_kafka`, `…_row` or `…_frame`."""
        with self._lock:
            self._delays[measure].add(delay_ms, n)

    def delays(self, measure: str, delays_ms: Sequence[float]) -> None:
        """Counts the delays of a batch; see `delay`."""
        with self._lock:
            self._delays[measure].add_all(delays_ms)

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
        return self.books().accounts

    def books(self) -> Books:
        """A copy of the accounts and of what they cover, consistent with each other."""
        with self._lock:
            accounts = {stream: replace(account) for stream, account in self.accounts.items()}
            return Books(accounts, dict(self._covered))

    def current_alerts(self) -> dict[tuple[str, str], str]:
        """A copy of the alerts."""
        with self._lock:
            return dict(self.alerts)

    def take_delays(self) -> dict[str, DelayHistogram]:
        """The delays since the last call; the caller owns them now."""
        with self._lock:
            taken = dict(self._delays)
            self._delays.clear()
            return taken
