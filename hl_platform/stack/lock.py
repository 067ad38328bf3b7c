"""One hl per data directory, also while the processes of a killed one are still ending."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

import psutil

from hl_platform.core.errors import ConfigError

# The processes of a killed hl get their stop signal from the kernel at once; this is how long they may take.
LEFTOVERS_GONE_S = 20.0


class DataDirLock:
    """Held by `hl up` and by every process that it starts, so that it is free only when all have ended.

    Args:
        data_dir: what is locked.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "lock"
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The file descriptor for children to inherit."""
        assert self._descriptor is not None  # noqa: S101 - acquired before anything is started
        return self._descriptor

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Takes the lock; waits for what a killed hl left behind, not for a living one.

        Raises:
            ConfigError: another hl holds the directory; says which process.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LEFTOVERS_GONE_S
        while not _try_lock(descriptor):
            holder = holder_of(self._path.parent)
            if holder is not None or time.monotonic() > deadline:
                pids = [holder] if holder is not None else _pids_with(self._path)
                os.close(descriptor)
                raise ConfigError(_held(self._path.parent, pids))
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the directory free."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def holder_of(data_dir: Path) -> int | None:
    """The pid of the `hl up` that runs on a data directory; None if there is none."""
    path = data_dir / "lock"
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        with path.open() as file:
            pid = int(file.read())
            if _try_lock(file.fileno(), shared=True):
                return None
        if lives(psutil.Process(pid)):
            return pid
    return None


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pids_with(path: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(OSError):
            descriptors = Path(f"/proc/{process.pid}/fd")
            if any(path == entry.readlink() for entry in descriptors.iterdir()):
                found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]


def _held(data_dir: Path, pids: list[int]) -> str:
    who = f"pid {', '.join(map(str, pids))}" if pids else "a process that cannot be seen from here"
    return (
        f"The data directory {data_dir} is in use by another hl ({who}). Stop that with `hl down`, or set "
        "HL_DATA_DIR to a directory of its own."
    )
