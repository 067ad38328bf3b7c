"""What all programs that hl starts have in common."""

import contextlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from hl_platform.core.errors import HlError, TransientError
from hl_platform.stack.files import tail
from hl_platform.stack.process import Child, Command

READY_POLL_S = 0.05
N_LOG_LINES = 12


class StartError(HlError):
    """A program did not start, or ended before it was ready. The message holds its last lines."""


def silent(_message: str) -> None:
    """Reports nothing."""


class Server(ABC):
    """A program with a start, a moment at which it is ready, and an orderly end.

    Args:
        name: of the program; also of its log file.
        logs: directory of the log files.
        keep_fds: file descriptors that the process inherits.
        report: told what takes long, for a person to read.
    """

    # Longest orderly end, in seconds, before it is killed.
    stop_timeout_s = 6.0

    def __init__(
        self,
        name: str,
        logs: Path,
        *,
        keep_fds: Sequence[int] = (),
        report: Callable[[str], None] = silent,
    ) -> None:
        self.name = name
        self.log_path = logs / f"{name}.log"
        self.report = report
        self._keep_fds = keep_fds
        self.child: Child | None = None

    def prepare(self) -> None:  # noqa: B027 - most programs need nothing
        """Does what has to be done before a start and may take long; safe to repeat, in any thread."""

    @abstractmethod
    def command(self) -> Command:
        """What to run."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves, now."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self.child is None or self.child.returncode is not None else self.child.pid

    def spawn(self) -> None:
        """Starts the process and returns at once. Call in a thread that lives as long as hl does."""
        self.child = Child(self.command(), self.log_path, self._keep_fds)

    def start(self) -> None:
        """Prepares and starts; `wait_ready` says when it serves."""
        self.prepare()
        self.spawn()

    def wait_ready(self, timeout_s: float = 60.0, stop: threading.Event | None = None) -> None:
        """Returns once it serves.

        Args:
            timeout_s: how long to wait.
            stop: set to give up waiting.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if stop is not None and stop.is_set():
                return
            if self.pid is None:
                raise StartError(f"{self.name} ended at its start. {self._last_lines()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {timeout_s:g} s. {self._last_lines()}")
            time.sleep(READY_POLL_S)

    def stop(self) -> None:
        """Ends it in an orderly way, or at once when that takes too long."""
        if self.child is not None:
            self.child.ask_to_stop()
            if not self.child.wait(self.stop_timeout_s):
                self.child.kill()
            self.child = None

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def restart(self, timeout_s: float = 60.0) -> None:
        """Stops it if it runs, starts it, and returns once it serves."""
        self.stop()
        self.start()
        self.wait_ready(timeout_s)

    def _last_lines(self) -> str:
        lines = tail(self.log_path, N_LOG_LINES)
        return f"Its last lines, from {self.log_path}:\n" + "\n".join(f"  {line}" for line in lines)


def plain_environment(home: Path) -> dict[str, str]:
    """The environment of a server: nothing of the caller's but where programs are."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(home), "TZ": "UTC"}


def reachable(check: Callable[[], object]) -> bool:
    """Whether a check succeeds, where failing only means "not yet"."""
    with contextlib.suppress(TransientError):
        check()
        return True
    return False
