"""hl's own processes, as the supervisor runs them."""

import http.client
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hl_platform.stack.layout import Layout
from hl_platform.stack.net import LOOPBACK, answers_tcp
from hl_platform.stack.process import Command
from hl_platform.stack.server import Server

HTTP_TIMEOUT_S = 1.0


class Program(Server):
    """A Python process of hl's, as the user who ran `hl up`.

    Args:
        name: of the program and its log.
        layout: the directories.
        argv: what to run.
        environment: all of it.
        ready: whether it serves; None for one that is ready when it lives for a moment.
        keep_fds: file descriptors it inherits.
        stop_signal: what asks for an orderly end.
        stop_timeout_s: how long that may take.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        ready: Callable[[], bool] | None = None,
        keep_fds: Sequence[int] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_s: float = 3.0,
    ) -> None:
        super().__init__(name, layout.logs, keep_fds=keep_fds)
        self.stop_timeout_s = stop_timeout_s
        self._command = Command(argv, environment, _working_directory(layout), stop_signal=stop_signal)
        self._ready = ready

    def command(self) -> Command:
        """What to run."""
        return self._command

    def is_ready(self) -> bool:
        """Whether it serves; one that has nothing to show for it is ready when it has not died at once."""
        if self._ready is not None:
            return self._ready()
        return self.pid is not None and self.child is not None and time.time() - self.child.started_at > 1.0


def listens(port: int, host: str = LOOPBACK) -> Callable[[], bool]:
    """A check that somebody accepts connections on a port."""
    return lambda: answers_tcp(port, host)


def answers_http(port: int, path: str, host: str = LOOPBACK) -> Callable[[], bool]:
    """A check that a web server answers a request, whatever it says."""

    def check() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        else:
            return True
        finally:
            connection.close()

    return check


def _working_directory(layout: Layout) -> Path:
    # Not the caller's: Python would import from there, and it could not be unmounted or removed.
    return layout.run
