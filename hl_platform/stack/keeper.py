"""Keeps one program running, in a thread of its own."""

import random
import subprocess
import threading
import time
from collections.abc import Callable

from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError
from hl_platform.stack.files import tail, truncate_grown
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.server import Server, StartError
from hl_platform.stack.state import ProgramState

READY_TIMEOUT_S = 120.0
# After this long without a fault the next restart is a first one again.
STEADY_S = 60.0
LOG_CHECK_S = 10.0
MAX_LOG_BYTES = 16 * 1024 * 1024
N_LAST_LINES = 8


class Keeper:
    """Starts a program, and starts it again with back-off whenever it dies.

    Its thread makes the process and outlives it: the kernel ends a child when the thread that made it is gone.

    Args:
        server: the program.
        on_change: called from the keeper's thread after each change of state.
        on_death: called from the keeper's thread with a line for a person and the program's last lines.
    """

    def __init__(
        self,
        server: Server,
        *,
        on_change: Callable[[], None],
        on_death: Callable[[str, list[str]], None],
    ) -> None:
        self.server = server
        self.error: HlError | None = None
        self._on_change = on_change
        self._on_death = on_death
        self._state = ProgramState(server.name, "waiting", since=time.time())
        self._stop = threading.Event()
        self._was_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"keep-{server.name}")
        self._backoff = Backoff(random.Random(), max_s=5.0)  # noqa: S311 - jitter, not secrecy
        server.report = self._report

    @property
    def state(self) -> ProgramState:
        """What it does now."""
        return self._state

    @property
    def is_ready(self) -> bool:
        """Whether it has been ready once."""
        return self._was_ready.is_set()

    def start(self) -> None:
        """Begins; `is_ready` or `error` says how it went."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begins an orderly end."""
        self._stop.set()

    def wait_stopped(self) -> None:
        """Returns when its process has ended."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def kill(self) -> None:
        """Ends its process at once."""
        self._stop.set()
        child = self.server.child
        if child is not None:
            child.kill()

    def _run(self) -> None:
        while not self._stop.is_set():
            started_at = time.monotonic()
            try:
                self._start()
                self._await_end()
            except (HlError, OSError, subprocess.SubprocessError) as exc:
                # Also a full disk and a program that takes too long: this thread must not end, its process would.
                self._end_process()
                if not self._was_ready.is_set():
                    # The first start tells whether it can run at all; whoever started us decides.
                    self.error = _start_error(self.server.name, exc)
                    self._set("failed")
                    return
                self._report(str(exc).splitlines()[0])
            if not self._stop.is_set():
                self._await_restart(started_at)
        self._set("stopping")
        self._end_process()
        self._set("stopped")

    def _start(self) -> None:
        self._set("preparing")
        self.server.prepare()
        if self._stop.is_set():
            return
        self._set("starting")
        self.server.spawn()
        self._set("starting")
        self.server.wait_ready(READY_TIMEOUT_S, self._stop)
        if not self._stop.is_set():
            self._was_ready.set()
            self._set("running")

    def _await_end(self) -> None:
        checked_at = time.monotonic()
        child = self.server.child
        while child is not None and not child.wait(0.2) and not self._stop.is_set():
            if isinstance(self.server, EmbeddedMosquitto):
                self.server.save_when_due()
            if time.monotonic() - checked_at > LOG_CHECK_S:
                checked_at = time.monotonic()
                truncate_grown(self.server.log_path, MAX_LOG_BYTES)

    def _await_restart(self, started_at: float) -> None:
        if time.monotonic() - started_at > STEADY_S:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        child = self.server.child
        how = _describe(child.returncode if child is not None else None)
        self._set("restarting", restarts=self._state.restarts + 1)
        self._on_death(
            f"{self.server.name} {how}; it is started again in {wait_s:.1f} s.",
            tail(self.server.log_path, N_LAST_LINES),
        )
        self._stop.wait(wait_s)

    def _end_process(self) -> None:
        self.server.stop()

    def _report(self, detail: str) -> None:
        self._state = _replace(self._state, detail=detail)
        self._on_change()

    def _set(self, state: str, restarts: int | None = None) -> None:
        since = self._state.since if state == self._state.state else time.time()
        self._state = ProgramState(
            self.server.name,
            state,
            self.server.pid,
            since,
            restarts=self._state.restarts if restarts is None else restarts,
        )
        self._on_change()


def _replace(state: ProgramState, *, detail: str) -> ProgramState:
    return ProgramState(state.name, state.state, state.pid, state.since, detail, state.restarts)


def _start_error(name: str, exc: Exception) -> HlError:
    return exc if isinstance(exc, HlError) else StartError(f"{name} could not be started: {exc}")


def _describe(returncode: int | None) -> str:
    if returncode is None:
        return "could not be started"
    return f"was ended by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"
