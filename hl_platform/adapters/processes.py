"""Processes, told from others that were given the same number later, without a look at any clock."""

import socket
from pathlib import Path
from typing import NamedTuple, Self

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# proc(5): the 22nd field of /proc/PID/stat is the process's start in ticks since boot; after the name in
# parentheses, which may itself hold blanks and parentheses, it is the 20th.
START_FIELD = 19


class ProcessId(NamedTuple):
    """One process, and no other that ever was or will be.

    Args:
        host: where it runs.
        pid: its number.
        born: which boot of the machine it began in, and how far into it: a clock that is set changes neither.
    """

    host: str
    pid: int
    born: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `text` was made from; None if it is something else."""
        host, _, rest = text.partition(" ")
        pid, _, born = rest.partition(" ")
        return cls(host, int(pid), born) if pid.isdecimal() and born else None

    @property
    def text(self) -> str:
        """To be kept where others find it."""
        return f"{self.host} {self.pid} {self.born}"


def identify(pid: int) -> ProcessId | None:
    """A running process of this machine; None if it has ended."""
    born = _born(pid)
    return ProcessId(socket.gethostname(), pid, born) if born else None


def process_gone(process: ProcessId) -> bool:
    """Whether a process certainly runs no longer. Of a process elsewhere nothing is certain."""
    return process.host == socket.gethostname() and _born(process.pid) != process.born


def kill_process(process: ProcessId) -> bool:
    """Ends a process of this machine at once, also one that is suspended; returns whether there was one to end."""
    if process.host != socket.gethostname() or _born(process.pid) != process.born:
        return False
    try:
        psutil.Process(process.pid).kill()
    except psutil.Error:
        return False
    return True


def _born(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        # A zombie has ended; only its parent has not noticed yet.
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not BOOT_ID.exists():
            return f"{process.create_time():.2f}"
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return f"{BOOT_ID.read_text(encoding='ascii').strip()}+{after_name.split()[START_FIELD]}"
    except (psutil.NoSuchProcess, OSError):
        return None
