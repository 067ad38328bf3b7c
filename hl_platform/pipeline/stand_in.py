"""Stands in for a bridge that is gone, so that what the broker gives to its session reaches Kafka all the same.

Bridges that share a subscription have an MQTT session each, and a broker may go on giving a session its share
while nobody reads it (Mosquitto does; shared subscriptions of MQTT 5.0, 4.8.2, leave it open). So each bridge
watches the leases of the others and takes the one that is free for too long, in a thread: with the lease go the
client id and thereby the session, with everything in it that was never acknowledged. The session of a bridge that
is not wanted any more, because there are fewer of them, is emptied in the same way and then ended.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from hl_platform.adapters.postgres.lease_reader import DatabaseClock, LeaseReader, LeaseRow
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import HlError
from hl_platform.core.sections import ServiceSettings

log = structlog.get_logger()

POLL_S = 0.5
# On top of the age at which the sensor replaces a dead service: that takes 3 to 6 s from the kill, and where it
# succeeds nobody need stand in.
PATIENCE_S = 2.0
# After an outage of the database every heartbeat looks old until its service has connected again.
OUTAGE_GRACE_S = 10.0
# Of a bridge that is not wanted any more: nobody waits for it, and other machines may learn of it a while later.
ORPHAN_AFTER_S = 30.0
# Clocks that are kept by NTP differ by milliseconds; a look at the database may take a second.
CLOCK_TOLERANCE_S = 10.0
# Between two attempts of which the first failed, by an outage of the broker or a refusal.
RETRY_S = 10.0

Carry = Callable[[str, threading.Event], None]


def plan_stand_ins(
    siblings: Iterable[str], leases: Mapping[str, LeaseRow], clock: DatabaseClock, rules: ServiceSettings
) -> list[str]:
    """The siblings that nobody runs: dead, hung or ended, also when a person ended them.

    Args:
        siblings: names of the other bridges that should be running.
        leases: of bridges, by name.
        clock: the database's.
        rules: heartbeat and staleness.

    Guarantee: names none that never ran: it has no session. A living holder is never named, nor anyone while
    heartbeats are old because the database was away.
    """
    free_after_s = rules.stale_after_s + PATIENCE_S
    if clock.now - clock.up_since <= free_after_s + OUTAGE_GRACE_S:
        return []
    return [
        name for name in siblings if name in leases and clock.now - _last_seen_at(leases[name]) > free_after_s
    ]


def plan_orphans(
    planned: Iterable[str], leases: Mapping[str, LeaseRow], clock: DatabaseClock, rules: ServiceSettings
) -> list[str]:
    """The bridges that are not wanted any more and that nobody runs; their sessions fill up at the broker.

    Args:
        planned: names of all bridges that should be running.
        leases: of bridges, by name.
        clock: the database's.
        rules: heartbeat and staleness.
    """
    free_after_s = rules.stale_after_s + ORPHAN_AFTER_S
    if clock.now - clock.up_since <= free_after_s:
        return []
    wanted = set(planned)
    return sorted(
        name
        for name, lease in leases.items()
        if name not in wanted and clock.now - _last_seen_at(lease) > free_after_s
    )


def _last_seen_at(lease: LeaseRow) -> float:
    return max(lease.beat_at, lease.released_at or 0.0)


def compare_clocks(stats: StageStats, own: float, database: float) -> None:
    """Raises an alert while our clock, which `received_at` and `clock_ahead` go by, differs from the database's.

    Args:
        stats: of the bridge.
        own: Unix seconds by our clock.
        database: Unix seconds by the database's.
    """
    ahead_s = own - database
    if abs(ahead_s) > CLOCK_TOLERANCE_S:
        how = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
        stats.alert("", "clock_differs", f"This bridge's clock is {how} the database's. Is NTP running?")
    else:
        stats.clear_alert("", "clock_differs")


class Until:
    """A worker that ends, and thereby ends those beside it, as soon as a condition holds.

    Args:
        condition: looked at now and then.
    """

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self._stop = threading.Event()

    def run(self) -> None:
        """Waits."""
        while not self._condition() and not self._stop.wait(POLL_S):
            pass

    def stop(self) -> None:
        """Ends `run`. Any thread."""
        self._stop.set()


class SiblingWatch:
    """Runs the services of dead siblings in threads of this process until their own processes are back.

    Args:
        url: of the database.
        host: the service that does this.
        planned: names of all bridges that should be running.
        rules: heartbeat and staleness.
        carry: takes the lease of a service if it is free, runs it until asked through that lease, or until the
            event is set, and stands in for nobody.
        retire: the same until the service has nothing left to do; then it is out of its stage.
        on_clock: told what the database's clock says, Unix seconds, at every look.

    Guarantee: where several want to stand in, the lease lets one. When `run` returns, all stand-ins have ended.
    """

    def __init__(
        self,
        *,
        url: str,
        host: str,
        planned: Sequence[str],
        rules: ServiceSettings,
        carry: Carry,
        retire: Carry,
        on_clock: Callable[[float], None],
    ) -> None:
        self._url = url
        self._host = host
        self._planned = planned
        self._siblings = [name for name in planned if name != host]
        self._rules = rules
        self._carry = carry
        self._retire = retire
        self._on_clock = on_clock
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}

    def run(self) -> None:
        """Watches until `stop`. An outage of the database is waited out: without it nobody can take a lease."""
        try:
            while not self._stop.wait(POLL_S):
                try:
                    self._watch()
                except HlError as exc:
                    # Never our own service's end.
                    log.warning("sibling_watch_interrupted", host=self._host, error=str(exc))
        finally:
            for thread in self._threads.values():
                thread.join()

    def stop(self) -> None:
        """Ends `run` and every stand-in after a flush. Any thread."""
        self._stop.set()

    def _watch(self) -> None:
        with LeaseReader(self._url) as reader:
            while not self._stop.wait(POLL_S):
                leases, clock = reader.leases("bridge"), reader.clock()
                self._on_clock(clock.now)
                for name in plan_stand_ins(self._siblings, leases, clock, self._rules):
                    self._begin(name, self._carry)
                for name in plan_orphans(self._planned, leases, clock, self._rules):
                    self._begin(name, self._retire)

    def _begin(self, name: str, work: Carry) -> None:
        running = self._threads.get(name)
        if (running and running.is_alive()) or time.monotonic() < self._not_before.get(name, 0.0):
            return
        thread = threading.Thread(target=self._run, args=(name, work), name=f"stand-in-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _run(self, name: str, work: Carry) -> None:
        log.warning("stand_in_begins", service=name, host=self._host)
        try:
            work(name, self._stop)
        except HlError as exc:
            # Our own service goes on; what the other holds stays at the broker meanwhile.
            self._not_before[name] = time.monotonic() + RETRY_S
            log.error("stand_in_failed", service=name, host=self._host, error=str(exc))  # noqa: TRY400
        except Exception:
            self._not_before[name] = time.monotonic() + RETRY_S
            log.exception("stand_in_failed", service=name, host=self._host)
        else:
            log.info("stand_in_ended", service=name, host=self._host)
