"""Starts the stack in order, keeps it running, and ends it in order."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import psutil
import structlog

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import ServiceHolder, read_status
from hl_platform.adapters.postgres.stopping import ServiceStopper
from hl_platform.core.errors import HlError, TransientError
from hl_platform.core.settings import Settings
from hl_platform.stack.addresses import resolve_environment
from hl_platform.stack.connection import forget_connection, write_connection
from hl_platform.stack.guard import Guard
from hl_platform.stack.keeper import Keeper
from hl_platform.stack.layout import Layout
from hl_platform.stack.lock import DataDirLock
from hl_platform.stack.plan import CODE_SERVER, SIMULATOR, StackPlan, plan_stack
from hl_platform.stack.prepare import prepare_data
from hl_platform.stack.server import Server
from hl_platform.stack.state import ProgramState, StackState, forget_state, write_state

log = structlog.get_logger()

POLL_S = 0.1
# Dagster starts the services within a few seconds of its own start; a slow box may take longer.
SERVICES_TIMEOUT_S = 90.0
# A bridge flushes to Kafka and a sink to PostgreSQL within a heartbeat and a batch.
SERVICES_STOP_S = 5.0
WORKERS_STOP_S = 1.5
DATA_STEP = "tables-and-topics"
# After a full disk has room again, other commands are told an old state for no longer.
STATE_AGAIN_S = 5.0


class Audience(Protocol):
    """Who is told what happens."""

    def states(self, states: list[ProgramState]) -> None:
        """The states have changed. Called from any thread, one at a time."""

    def tell(self, message: str, lines: Iterable[str] = ()) -> None:
        """Something a person should know, with lines of a log. Called from any thread."""


class Stack:
    """The supervised processes of one data directory.

    Args:
        settings: as given.
        layout: the directories, made.
        environment: of `hl up`.
        audience: told what happens.
    """

    def __init__(
        self, settings: Settings, layout: Layout, environment: Mapping[str, str], audience: Audience
    ) -> None:
        self._given = settings
        self._layout = layout
        self._audience = audience
        self._lock = DataDirLock(layout.data_dir)
        self._guard = Guard()
        self._keepers: dict[str, Keeper] = {}
        self._steps: dict[str, ProgramState] = {}
        self._phase = "starting"
        self._changing = threading.RLock()
        self._is_state_written = True
        self._environment = environment
        self.settings = settings

    def claim(self) -> None:
        """Makes the data directory ours, until `stop`; waits for what a killed hl left behind.

        Raises:
            ConfigError: another hl holds it.
        """
        self._lock.acquire()
        # A pid may come again.
        forget_state(self._layout)

    def start(self, stop: threading.Event) -> None:
        """Returns when everything runs, or when `stop` is set. Call `claim` first.

        Raises:
            HlError: why it cannot run; call `stop` all the same.
        """
        self.settings, environment = resolve_environment(self._given, self._layout, self._environment)
        write_connection(self._layout, environment)
        lock = self._lock.descriptor
        self._guard.start(self._layout.logs, lock)
        marked = {**environment, **self._guard.environment}
        plan = plan_stack(self._given, self.settings, self._layout, marked, lock)
        # The code server only loads the definitions: it can do so while the servers start.
        *servers, code_server = self._start([*plan.servers, plan.code_server])
        self._await_ready(servers, stop)
        self._step(DATA_STEP, lambda report: prepare_data(self.settings, report, stop), stop)
        live = self._start([] if stop.is_set() else [plan.live])
        # All of Dagster at once takes longer until its first tick: the three fight for the cores.
        self._await_ready([code_server], stop)
        dagster = self._start([] if stop.is_set() else plan.dagster)
        self._await_ready([*live, *dagster], stop)
        self._await_services(plan, stop)
        if plan.simulator is not None and not stop.is_set():
            self._await_ready(self._start([plan.simulator]), stop)
        if not stop.is_set():
            self._phase = "ready"
            self._changed()

    def wait(self, stop: threading.Event) -> None:
        """Returns when `stop` is set. Until then a state that could not be written is tried again."""
        while not stop.wait(STATE_AGAIN_S):
            if not self._is_state_written:
                self._changed()

    def stop(self) -> None:
        """Ends everything, each after those that need it, in less than ten seconds."""
        if not self._lock.is_held:
            # Nothing was started, and what lies in the directory is another hl's.
            return
        self._phase = "stopping"
        self._steps.pop(DATA_STEP, None)
        self._changed()
        servers = ("postgres", "kafka", "mosquitto")
        first = [keeper for name, keeper in self._keepers.items() if name not in (*servers, CODE_SERVER)]
        for keeper in first:
            keeper.ask_to_stop()
        # The daemon must be gone before the services are asked to end, or it would start them again.
        for keeper in first:
            keeper.wait_stopped()
        self._stop_services()
        for group in ((CODE_SERVER,), servers):
            for name in group:
                if name in self._keepers:
                    self._keepers[name].ask_to_stop()
            for name in group:
                if name in self._keepers:
                    self._keepers[name].wait_stopped()
        self._guard.stop()
        forget_connection(self._layout)
        self._lock.release()

    def set_audience(self, audience: Audience) -> None:
        """Tells someone else from now on."""
        with self._changing:
            self._audience = audience

    def kill(self) -> None:
        """Ends everything at once. What was acknowledged is safe, as after a crash."""
        for keeper in self._keepers.values():
            keeper.kill()

    def _start(self, servers: Iterable[Server]) -> list[Keeper]:
        keepers = [Keeper(server, on_change=self._changed, on_death=self._died) for server in servers]
        self._keepers |= {keeper.server.name: keeper for keeper in keepers}
        for keeper in keepers:
            keeper.start()
        return keepers

    def _await_ready(self, keepers: Iterable[Keeper], stop: threading.Event) -> None:
        waiting = list(keepers)
        while waiting and not stop.is_set():
            for keeper in self._keepers.values():
                if keeper.error is not None:
                    raise keeper.error
            waiting = [keeper for keeper in waiting if not keeper.is_ready]
            stop.wait(POLL_S / 2)

    def _step(self, name: str, work: Callable[[Callable[[str], None]], None], stop: threading.Event) -> None:
        if stop.is_set():
            return
        began = time.time()

        def report(detail: str) -> None:
            self._steps[name] = ProgramState(name, "starting", since=began, detail=detail)
            self._changed()

        work(report)
        self._steps[name] = ProgramState(name, "done", since=time.time())
        self._changed()

    def _await_services(self, plan: StackPlan, stop: threading.Event) -> None:
        """Waits until Dagster has the services running; they may come later, so it only says if not."""
        deadline, began = time.monotonic() + SERVICES_TIMEOUT_S, time.time()
        missing = plan.services
        while missing and not stop.is_set():
            alive = self._alive_services()
            missing = [name for name in plan.services if name not in alive]
            for name in plan.services:
                state = "starting" if name in missing else "running"
                pid = None if name in missing else alive[name].pid
                since = self._steps[name].since if name in self._steps else began
                self._steps[name] = ProgramState(name, state, pid, since)
            self._changed()
            if time.monotonic() > deadline:
                self._audience.tell(
                    f"{', '.join(missing)} did not start within {SERVICES_TIMEOUT_S:g} s. Dagster goes on "
                    f"trying; its page at http://127.0.0.1:{self.settings.dagster.port} says why."
                )
                return
            stop.wait(POLL_S * 3)

    def _alive_services(self) -> dict[str, ServiceHolder]:
        try:
            with connect(self.settings.database.url or "", application_name="hl-up") as conn:
                holders = read_status(conn).holders
        except TransientError:
            return {}
        limit = self.settings.service.stale_after_s
        return {
            holder.service: holder for holder in holders if not holder.released and holder.beat_age_s < limit
        }

    def _stop_services(self) -> None:
        code_server = self._keepers.get(CODE_SERVER)
        if code_server is None or self.settings.database.url is None:
            return
        with contextlib.suppress(HlError):
            stopper = ServiceStopper(self.settings.database.url, self.settings.service.stale_after_s)
            try:
                deadline = time.monotonic() + SERVICES_STOP_S
                stopper.request()
                while (held := stopper.held()) and time.monotonic() < deadline:
                    self._show_services("stopping", held)
                    time.sleep(POLL_S)
            finally:
                stopper.close()
        self._show_services("stopped", self._steps)
        # They write the end of their runs still.
        if code_server.server.pid is not None:
            with contextlib.suppress(psutil.Error):
                # Its children are Python's own helpers, which live as long as it does; the runs are theirs.
                helpers = psutil.Process(code_server.server.pid).children()
                workers = [worker for helper in helpers for worker in helper.children()]
                psutil.wait_procs(workers, timeout=WORKERS_STOP_S)

    def _show_services(self, state: str, names: Iterable[str]) -> None:
        for name in tuple(names):
            before = self._steps.get(name)
            if before is not None and before.state != state:
                self._steps[name] = ProgramState(name, state, before.pid, time.time())
        self._changed()

    def _died(self, message: str, lines: list[str]) -> None:
        log.warning("program_died", message=message)
        self._audience.tell(message, lines)

    def _changed(self) -> None:
        with self._changing:
            states = [keeper.state for keeper in self._keepers.values()]
            at = len(states) - (1 if SIMULATOR in self._keepers else 0)
            states[at:at] = self._steps.values()
            if self._phase != "stopping" or self._keepers:
                self._write(StackState(self._phase, os.getpid(), states))
            self._audience.states(states)

    def _write(self, state: StackState) -> None:
        try:
            write_state(self._layout, state)
        except OSError as exc:
            # The threads that say so keep the programs: they go on, also on a full disk.
            if self._is_state_written:
                log.warning("state_not_written", error=str(exc))
            self._is_state_written = False
        else:
            self._is_state_written = True
