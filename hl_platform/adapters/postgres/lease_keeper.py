"""Keeps a lease alive from a thread, so that no work of the service can delay a heartbeat."""

import random
import threading
import time
from collections.abc import Callable

import structlog

from hl_platform.adapters.postgres.leases import Holder, Lease
from hl_platform.core.accounts import Books, StageStats
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import FencedError, HlError, TransientError
from hl_platform.core.sections import ServiceSettings

log = structlog.get_logger()

# How long a living holder may take to flush before its successor takes over all the same.
HANDOVER_S = 8.0


class LeaseKeeper:
    """Takes a lease, beats in the background, and says when to stop.

    Args:
        url: of the database.
        holder: who holds.
        rules: heartbeat and staleness.
        stats: what the stage counts; written with each beat.
        on_end: called once, from the thread, when the lease is lost or the holder is asked to stop.
        with_accounts: False where the stage writes its accounts in its own transactions.
    """

    def __init__(
        self,
        url: str,
        holder: Holder,
        rules: ServiceSettings,
        stats: StageStats,
        *,
        on_end: Callable[[], None],
        with_accounts: bool,
    ) -> None:
        self._lease = Lease(url, holder, stale_after_s=rules.stale_after_s)
        self._holder = holder
        self._rules = rules
        self._stats = stats
        self._on_end = on_end
        self._with_accounts = with_accounts
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{holder.service}-lease", daemon=True)
        self.fenced = False

    @property
    def epoch(self) -> int:
        """Under which the lease is held."""
        return self._lease.epoch

    @property
    def counted_before(self) -> Books:
        """What predecessors had counted when the lease was taken."""
        return self._lease.counted_before

    def acquire(self, stop: threading.Event) -> bool:
        """Waits for the lease: until the holder before has flushed, or for an outage of the database.

        Args:
            stop: set to give up.

        Returns:
            Whether the lease is held; False only after `stop`.
        """
        backoff = Backoff(random.Random(), max_s=1.0)  # noqa: S311 - jitter, not secrecy
        deadline: float | None = None
        while not stop.is_set():
            try:
                if self._lease.try_acquire(force=deadline is not None and time.monotonic() > deadline):
                    self._thread.start()
                    return True
            except TransientError as exc:
                log.warning("database_away", service=self._holder.service, error=str(exc))
                stop.wait(backoff.next_s())
                continue
            deadline = deadline or time.monotonic() + HANDOVER_S
            stop.wait(0.1)
        return False

    def acquire_if_free(self) -> bool:
        """Takes the lease if nobody alive holds it, and asks nobody to stop; returns whether it is held.

        Raises:
            TransientError: the database cannot be reached now.
        """
        taken = False
        try:
            taken = self._lease.try_acquire(ask=False)
            if taken:
                self._thread.start()
        finally:
            if not taken:
                self._lease.close()
        return taken

    def release(self) -> None:
        """Writes the last counts and ends the lease. Never raises: the work is done either way."""
        self._finish.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._rules.heartbeat_s + 5.0)
        try:
            if not self.fenced:
                self._lease.beat(self._stats, with_accounts=self._with_accounts)
                self._lease.release()
        except HlError as exc:
            # The successor waits until the heartbeat is stale, or takes the lease at once after a fencing.
            log.warning("lease_not_released", service=self._holder.service, error=str(exc))
        finally:
            self._lease.close()

    def _run(self) -> None:
        backoff = Backoff(random.Random(), max_s=1.0)  # noqa: S311
        wait_s = 0.0
        while not self._finish.wait(wait_s):
            try:
                asked_to_stop = self._lease.beat(self._stats, with_accounts=self._with_accounts)
            except TransientError as exc:
                # The stage goes on: whether it may write is checked where it writes.
                log.warning("heartbeat_failed", service=self._holder.service, error=str(exc))
                wait_s = backoff.next_s()
                continue
            except FencedError as exc:
                log.warning("fenced", service=self._holder.service, reason=str(exc))
                self.fenced = True
                self._on_end()
                return
            backoff.reset()
            wait_s = self._rules.heartbeat_s
            if asked_to_stop:
                log.info("stop_requested", service=self._holder.service)
                self._on_end()
                # Goes on beating while the stage flushes: it is alive and must not be declared dead.
                self._finish.wait(wait_s)
