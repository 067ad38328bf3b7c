"""Runs one cell: a load, a harm between two steps, the mending, and the verdict."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import psycopg

from hl_platform.core.errors import HlError
from tests.faults.chaos import load
from tests.faults.chaos.household import Hold, Household, NotAsPlannedError, household
from tests.faults.chaos.matrix import Cell
from tests.faults.chaos.site import Site, resume, suspend
from tests.faults.chaos.verdict import Expected

# Before the harm and after it.
N_BEFORE, N_AFTER = 240, 80
N_GARBAGE = 12
# So that a load is several batches.
BATCHES = {"HL_SINK__MAX_BATCH_ROWS": "40"}
# So that Kafka need not be away for long before the bridge turns to its disk.
SPOOLING = {"HL_BRIDGE__SPOOL_AFTER_S": "0.3"}
# A line is away, or slow, and a server stands still for so long; a lease lives for one second here.
AWAY_S, SLOW_S, STILL_S = 1.2, 2.0, 2.0
SLOW_DELAY_S, SLOW_BYTES_PER_S = 0.03, 60_000.0
# So that what is queued is still on its way when the harm is done.
QUEUED_DELAY_S = 0.1
REACHED_WITHIN_S = 25.0
ENDED_WITHIN_S = 20.0


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a cell.

    Args:
        cell: its name.
        injected: what was done where, in words; empty if it was not.
        seconds: from an empty household to the verdict.
        faults: what is not as it should be; none is a pass.
        restarted: services that ended by themselves and were started again, with their exit codes.
        log: what the services said; kept for cells that failed.
    """

    cell: str
    seed: int
    injected: str = ""
    seconds: float = 0.0
    faults: list[str] = msgspec.field(default_factory=list)
    restarted: list[str] = msgspec.field(default_factory=list)
    log: str = ""

    @property
    def passed(self) -> bool:
        """Whether the fault was injected and everything is as it should be."""
        return bool(self.injected) and not self.faults


def run_cell(cell: Cell, seed: int, site: Site, logs: Path) -> Outcome:
    """Runs a cell from an empty household to its verdict. Never raises for what goes wrong in it."""
    started_at = time.monotonic()
    log_path = logs / f"{cell.name.replace('/', '_')}.log"
    log_path.unlink(missing_ok=True)
    outcome = Outcome(cell=cell.name, seed=seed, log=str(log_path))
    name = "chaos_" + "".join(letter if letter.isalnum() else "_" for letter in cell.name)
    try:
        with household(site, name, log_path, **BATCHES, **(SPOOLING if cell.spools else {})) as made:
            Experiment(cell, seed, site, made, outcome).run()
            outcome.restarted = made.restarted
    except NotAsPlannedError as exc:
        outcome.faults.append(str(exc))
    except (AssertionError, HlError, OSError, psycopg.Error) as exc:
        outcome.faults.append(f"{type(exc).__name__}: {exc}")
        with log_path.open("a") as log:
            traceback.print_exc(file=log)
    outcome.seconds = time.monotonic() - started_at
    if outcome.passed:
        log_path.unlink(missing_ok=True)
        outcome.log = ""
    return outcome


class Experiment:
    """One cell at work.

    Args:
        cell: what to do.
        seed: of the load and of the passage.
        site: servers and lines.
        household: services.
        outcome: is told what was injected.
    """

    def __init__(self, cell: Cell, seed: int, site: Site, household: Household, outcome: Outcome) -> None:
        rng = cell.rng(seed)
        self._cell, self._site, self._household, self._outcome = cell, site, household, outcome
        self._home = household.home
        self._passage = cell.passage(rng)
        self._messages = load.plan_load(rng, N_BEFORE + N_AFTER)
        self._garbage = load.plan_garbage(rng, N_GARBAGE)
        self._expected = Expected(self._home, self._messages, 1, N_GARBAGE)
        self._harms: dict[str, Callable[[Hold], None]] = {
            "kill": self._kill_server,
            "stop": self._stop_server,
            "cut": self._cut,
            "slow": self._slow,
        }
        if cell.victim == cell.stage:
            self._harms |= {"kill": self._kill_service, "stop": self._stop_service}

    def run(self) -> None:
        """Load, harm, mending, verdict."""
        hold = self._begin()
        if not hold.await_reached(REACHED_WITHIN_S):
            raise NotAsPlannedError(f"{self._cell.stage} never reached {self._where}")
        self._harms[self._cell.fault](hold)
        self._await_recovery()
        self._outcome.faults += self._expected.faults(sink_was_replaced=self._sink_was_replaced)

    @property
    def _where(self) -> str:
        return f"passage {self._passage} of {self._cell.stage}.{self._cell.step}"

    @property
    def _sink_was_replaced(self) -> bool:
        return self._cell.victim == "sink" or any("sink" in name for name in self._household.restarted)

    def _begin(self) -> Hold:
        household, home, cell = self._household, self._home, self._cell
        if cell.step == "queued":
            self._site.lines["bridge-kafka"].slow(QUEUED_DELAY_S)
        if cell.stage == "bridge":
            household.start("sink")
            # The probe is a message, too.
            hold = household.start_to_hold("bridge", cell.step, self._passage + (not cell.spools))
        else:
            household.start("bridge")
        household.await_true("a bridge is subscribed", lambda: home.has_bridge("energy"))
        if cell.spools:
            self._site.lines["bridge-kafka"].stall()
        self._send(0, N_BEFORE)
        if cell.step == "drained":
            is_spooling = "select 1 from hl.alerts where code = 'spooling'"
            household.await_true("records in the spool", lambda: bool(home.query(is_spooling)))
            self._site.lines["bridge-kafka"].heal()
        if cell.stage == "sink":
            # All of it is there already, or comes while the sink reads: batches of every size.
            hold = household.start_to_hold("sink", cell.step, self._passage)
        return hold

    def _send(self, start: int, end: int) -> None:
        """Publishes messages, and puts a share of the garbage in their midst."""
        messages = [(self._home.topic(one.device), one.payload) for one in self._messages[start:end]]
        n_all = len(self._messages)
        garbage = self._garbage[start * N_GARBAGE // n_all : end * N_GARBAGE // n_all]
        middle = len(messages) // 2
        self._home.publish(*messages[:middle])
        self._home.produce(*garbage)
        self._home.publish(*messages[middle:])

    def _send_the_rest(self) -> None:
        """What is published after the harm, with Kafka back if it was away for the step's sake."""
        if self._cell.victim != "bridge-kafka":
            self._site.lines["bridge-kafka"].heal()
        self._send(N_BEFORE, N_BEFORE + N_AFTER)

    def _injected(self, what: str) -> None:
        self._outcome.injected = f"{what} at {self._where}"

    def _kill_service(self, _hold: Hold) -> None:
        self._household.kill(self._cell.victim)
        self._injected(f"kill -9 of {self._cell.victim}")
        self._household.start(self._cell.victim)
        self._send_the_rest()

    def _stop_service(self, hold: Hold) -> None:
        old = self._household.put_to_sleep(self._cell.victim)
        self._injected(f"SIGSTOP of {self._cell.victim}, a successor, SIGCONT")
        self._household.start(self._cell.victim)
        self._send_the_rest()
        self._household.await_true(
            "rows of the successor, while the old one sleeps", lambda: not self._expected.wrong_rows()
        )
        hold.go_on()
        self._household.wake(old)
        self._household.await_true(
            "end of the old one by itself", lambda: old.poll() is not None, ENDED_WITHIN_S
        )

    def _kill_server(self, hold: Hold) -> None:
        server = self._site.server(self._cell.victim)
        if server is self._site.mosquitto:
            # What it has not saved yet it may lose, and says so: see docs/architecture.md.
            self._site.save_mosquitto()
        server.kill()
        self._injected(f"kill -9 of {self._cell.victim}")
        hold.go_on()
        server.start()
        server.wait_ready()
        self._send_the_rest()

    def _stop_server(self, hold: Hold) -> None:
        processes = suspend(psutil.Process(self._site.server(self._cell.victim).pid))
        self._injected(f"SIGSTOP of {self._cell.victim} for {STILL_S:g} s")
        hold.go_on()
        time.sleep(STILL_S)
        resume(processes)
        self._send_the_rest()

    def _cut(self, hold: Hold) -> None:
        line = self._site.lines[self._cell.victim]
        n_broken = line.cut()
        if n_broken == 0:
            raise NotAsPlannedError(f"the line {self._cell.victim} had no connection to cut at {self._where}")
        self._injected(f"{n_broken} connections of {self._cell.victim} cut for {AWAY_S:g} s")
        hold.go_on()
        time.sleep(AWAY_S)
        line.heal()
        self._send_the_rest()

    def _slow(self, hold: Hold) -> None:
        line = self._site.lines[self._cell.victim]
        if line.n_connections == 0:
            raise NotAsPlannedError(f"the line {self._cell.victim} had no connection at {self._where}")
        line.slow(SLOW_DELAY_S, SLOW_BYTES_PER_S)
        self._injected(f"{self._cell.victim} slow for {SLOW_S:g} s")
        hold.go_on()
        self._send_the_rest()
        time.sleep(SLOW_S)
        line.heal()

    def _await_recovery(self) -> None:
        # Not longer than patience, and never a verdict of its own: what is still wrong then is said as it is.
        try:
            self._household.await_true("recovery", self._expected.is_done)
        except NotAsPlannedError as exc:
            self._outcome.faults.append(str(exc))
