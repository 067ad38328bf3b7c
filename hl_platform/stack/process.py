"""Child processes that cannot outlive hl."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hl_platform.core.errors import ConfigError
from hl_platform.stack.files import rotate


class Command(NamedTuple):
    """What to run and how.

    Args:
        argv: program and arguments.
        environment: all of it; nothing is inherited.
        directory: working directory.
        user: who it runs as; None is oneself.
        stop_signal: asks for an orderly end; also sent by the kernel when hl itself is killed.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One running command, in a session of its own so that Ctrl-C on the terminal does not reach it.

    Args:
        command: what to run.
        log_path: where its output goes; the file of a run before is rotated away.
        keep_fds: file descriptors it inherits, such as that of the data directory's lock.

    Guarantee: gets `command.stop_signal` when the thread that made it ends, so make it in a thread that lives
    as long as hl does.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """

    def __init__(self, command: Command, log_path: Path, keep_fds: Sequence[int] = ()) -> None:
        rotate(log_path)
        self.started_at = time.time()
        self._stop_signal = command.stop_signal
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                [*_launcher(command), *command.argv],
                env=dict(command.environment),
                cwd=command.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep_fds,
            )

    @property
    def pid(self) -> int:
        """Process id: of the command itself, since the launcher replaces itself."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        """Sends the stop signal."""
        self.send(self._stop_signal)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end; returns whether it came."""
        if self.returncode is None:
            self._await_end(timeout_s)
        return self.returncode is not None

    def _await_end(self, timeout_s: float) -> None:
        # Popen's own wait looks twenty times a second, for each program and for as long as hl runs.
        # Another thread may have asked for the return code meanwhile, which removes the process.
        with contextlib.suppress(ProcessLookupError):
            end = os.pidfd_open(self.pid)
            try:
                poll = select.poll()
                poll.register(end, select.POLLIN)
                poll.poll(timeout_s * 1000)
            finally:
                os.close(end)

    def kill(self) -> None:
        """Ends it at once, with what is left of its session, and waits for that."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def _launcher(command: Command) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigError("The program setpriv is missing. Run `apt-get install util-linux`.")
    launcher = [setpriv, "--pdeathsig", command.stop_signal.name.removeprefix("SIG")]
    if command.user is not None:
        launcher += ["--reuid", command.user, "--regid", command.user, "--clear-groups", "--no-new-privs"]
    return [*launcher, "--"]
