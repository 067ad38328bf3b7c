"""Processes of this machine, told from others that were given the same number later."""

import socket

import psutil

# Clocks of the process table and of the database may differ by this much, in seconds. A number is not given
# again sooner than that.
CLOCK_TOLERANCE_S = 30.0


def process_gone(host: str, pid: int, seen_at: float) -> bool:
    """Whether a process certainly runs no longer.

    Args:
        host: where it ran; of a process elsewhere nothing is certain.
        pid: its number.
        seen_at: Unix seconds at which it was alive.
    """
    return host == socket.gethostname() and _find(pid, seen_at) is None


def kill_process(host: str, pid: int, seen_at: float) -> bool:
    """Ends a process at once, also one that is suspended; returns whether there was one to end.

    Args:
        host: where it runs; a process elsewhere is left alone.
        pid: its number.
        seen_at: Unix seconds at which it was alive. A younger process of the same number is left alone.
    """
    process = _find(pid, seen_at) if host == socket.gethostname() else None
    if process is None:
        return False
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def _find(pid: int, seen_at: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        is_it = process.create_time() <= seen_at + CLOCK_TOLERANCE_S
        # A zombie has ended; only its parent has not noticed yet.
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
