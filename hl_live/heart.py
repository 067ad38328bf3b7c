"""The service's heartbeat and accounts, kept up without ever ending or delaying the service."""

import threading

import structlog

from hl_platform.adapters.postgres.lease_keeper import LeaseKeeper
from hl_platform.adapters.postgres.leases import Holder
from hl_platform.core.accounts import StageStats
from hl_platform.core.settings import Settings

log = structlog.get_logger()

STAGE = "live"


class Heart:
    """Takes the lease of the live service as soon as the database is there, and beats from then on.

    Args:
        url: of the database.
        settings: name of the instance, and how often to beat.
        stats: what is written with each beat.

    Guarantee: being fenced, asked to stop or cut off from the database never ends the service; live services
    share nothing, so there may be two of a name for a while.
    """

    def __init__(self, url: str, settings: Settings, stats: StageStats) -> None:
        instance = settings.live.instance
        self._service = f"{STAGE}-{instance}" if instance else STAGE
        self._stop = threading.Event()
        self._keeper = LeaseKeeper(
            url,
            Holder(self._service, STAGE),
            settings.service,
            stats,
            on_end=self._on_end,
            with_accounts=True,
        )
        self._thread = threading.Thread(target=self._run, name="live-heart", daemon=True)
        self._done = threading.Event()

    def start(self) -> None:
        """Begins to ask for the lease."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Writes the last counts and gives the lease back; returns whether that was done within the time."""
        self._stop.set()
        return self._done.wait(timeout_s)

    def _run(self) -> None:
        if self._keeper.acquire(self._stop):
            self._stop.wait()
            self._keeper.release()
        self._done.set()

    def _on_end(self) -> None:
        log.warning(
            "lease_taken_over", service=self._service, consequence="counts of this process are not shown"
        )
