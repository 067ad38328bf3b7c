"""What the running stack says about itself, for the other `hl` commands to read."""

import contextlib
import time
from pathlib import Path

import msgspec

from hl_platform.stack.files import write_private
from hl_platform.stack.layout import Layout
from hl_platform.stack.lock import holder_of


class ProgramState(msgspec.Struct, frozen=True):
    """One supervised process.

    Args:
        name: of the program and of its log.
        state: waiting, preparing, starting, running, restarting, stopping, stopped or failed.
        pid: while there is a process.
        since: Unix seconds at which it entered the state.
        detail: what it is busy with.
        restarts: how often it was started anew.
    """

    name: str
    state: str
    pid: int | None = None
    since: float = 0.0
    detail: str = ""
    restarts: int = 0

    @property
    def seconds(self) -> float:
        """How long it has been in its state."""
        return max(0.0, time.time() - self.since)


class StackState(msgspec.Struct, frozen=True):
    """The whole stack.

    Args:
        phase: starting, ready or stopping.
        pid: of `hl up`.
        programs: in the order of their start.
    """

    phase: str
    pid: int
    programs: list[ProgramState]


def write_state(layout: Layout, state: StackState) -> None:
    """Shows the state to other commands."""
    write_private(layout.run / "state.json", msgspec.json.encode(state).decode())


def read_state(data_dir: Path) -> StackState | None:
    """What the running stack last said; None if none runs."""
    holder = holder_of(data_dir)
    return None if holder is None else last_state(data_dir, holder)


def last_state(data_dir: Path, pid: int) -> StackState | None:
    """What a stack last said that runs, or ran last; None if that was another one.

    Args:
        data_dir: of the stack.
        pid: of its `hl up`.
    """
    with contextlib.suppress(OSError, msgspec.DecodeError):
        state = msgspec.json.decode((data_dir / "run" / "state.json").read_bytes(), type=StackState)
        # The file lies there until the next hl begins.
        return state if state.pid == pid else None
    return None


def forget_state(layout: Layout) -> None:
    """Takes away what the last hl said last, and left there for whoever waited for its end."""
    (layout.run / "state.json").unlink(missing_ok=True)
