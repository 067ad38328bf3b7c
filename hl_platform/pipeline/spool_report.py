"""What people learn about a bridge's spool: alerts, log lines and counts."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog

from hl_platform.adapters.spool import Spool, SpoolDamagedError, SpoolError
from hl_platform.core.accounts import StageStats
from hl_platform.pipeline.outgoing import decode_entry

log = structlog.get_logger()

SPOOLING, FILLING, FAILING = "spooling", "spool_filling", "spool_failing"
DAMAGED, UNUSABLE = "spool_damaged", "spool_unusable"
# Share of the bound from which it is time to do something.
FILLING_FROM = 0.8
TELL_EVERY_S = 1.0


class SpoolReport:
    """Keeps the alerts of one spool up to date.

    Args:
        stats: where alerts and counts go.
        directory: of the spool.
    """

    def __init__(self, stats: StageStats, directory: Path) -> None:
        self._stats = stats
        self._directory = directory
        self._tell_at = 0.0
        self._failing = self._unusable = False

    def found(self, entries: Iterable[bytes]) -> None:
        """Counts what an earlier process left as received: that process's account has let go of it.

        All of it or, where reading it raises, nothing: it is read anew then.
        """
        for stream, n in Counter(decode_entry(entry).stream for entry in entries).items():
            self._stats.count(stream, received=n)

    def damaged(self, what: str) -> None:
        """Says that acknowledged readings cannot be read any more."""
        log.error("spool_damaged", what=what)
        self._stats.alert("", DAMAGED, f"{what} Readings that were acknowledged may be lost; check the disk.")

    def unusable(self, error: SpoolError) -> None:
        """Says that there is no spool now; the bridge does without."""
        if not self._unusable:
            log.error("spool_unusable", error=str(error))
        self._unusable = True
        self._stats.alert(
            "",
            UNUSABLE,
            f"{error} Until it can be used, only MQTT's queue keeps readings while Kafka is away. Check the disk, or "
            "set HL_BRIDGE__SPOOL_DIR to a directory that hl may write to.",
        )

    def usable(self) -> None:
        """Ends what `unusable` said."""
        self._unusable = False
        self._stats.clear_alert("", UNUSABLE)

    def failing(self, error: SpoolError) -> None:
        """Says that the disk takes nothing more, or gives nothing back."""
        if not self._failing:
            log.error("spool_failing", error=str(error))
        self._failing = True
        if isinstance(error, SpoolDamagedError):
            text = f"{error}. Restart the bridge, which saves what can be read; check the disk."
        else:
            text = (
                f"{error} Nothing more is acknowledged: MQTT's queue keeps what comes. Make room on the disk, or "
                "bring Kafka back."
            )
        self._stats.alert("", FAILING, text)

    def working(self) -> None:
        """Ends what `failing` said."""
        if self._failing:
            self._failing = False
            self._stats.clear_alert("", FAILING)

    def tell(self, spool: Spool, now: float) -> None:
        """Says how full it is, once in a while, and deletes what has left then."""
        if now < self._tell_at:
            return
        self._tell_at = now + TELL_EVERY_S
        spool.save()
        try:
            size_bytes = spool.size_bytes
        except SpoolError as exc:
            self.failing(exc)
            return
        held = f"{spool.n_waiting} readings in {size_bytes} of {spool.max_bytes} bytes"
        self._stats.alert("", SPOOLING, f"Kafka does not take readings; {self._directory} holds {held}.")
        if size_bytes >= FILLING_FROM * spool.max_bytes:
            self._stats.alert(
                "",
                FILLING,
                f"The spool {self._directory} holds {held}. When it is full, MQTT's queue is all there is: "
                "bring Kafka back, or raise HL_BRIDGE__SPOOL_MAX_BYTES.",
            )
        else:
            self._stats.clear_alert("", FILLING)

    def over(self) -> None:
        """Kafka has everything."""
        for code in (SPOOLING, FILLING, FAILING):
            self._stats.clear_alert("", code)
        self._failing = False
