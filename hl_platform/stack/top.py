"""`hl top`: everything that flows, live."""

import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hl_platform.core.settings import load_settings
from hl_platform.stack.check import require_running
from hl_platform.stack.connection import command_environment
from hl_platform.stack.signals import stop_on_signals
from hl_platform.stack.top_frame import frame
from hl_platform.stack.top_read import Snapshot, SnapshotReader

# Services write twice a second; rates over a shorter time would jump.
EVERY_S = 1.0
KEY_S = 0.2


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end, as it does where there is no terminal.")
def top(*, once: bool) -> None:
    """Watch rates, delays against their budgets, lag, aggregates that wait, alerts and silent devices; q ends."""
    settings = load_settings(command_environment())
    require_running(settings)
    reader = SnapshotReader(settings)
    console = Console()
    with stop_on_signals() as stop:
        if once or not console.is_terminal:
            before = reader.read()
            stop.wait(EVERY_S)
            console.print(frame(reader.read(), before))
        else:
            _watch(console, reader, stop)


class _Newest:
    """The last two snapshots, read in a thread of their own: an outage must not delay a key.

    Args:
        read: makes a snapshot.
    """

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read
        self._pair: tuple[Snapshot, Snapshot] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top-reader", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Reads no more; does not wait for a server that is away."""
        self._stop.set()

    def render(self) -> RenderableType:
        """The frame of now."""
        if self._pair is None:
            return Text("Reading …", style="dim")
        before, now = self._pair
        return Group(frame(now, before), Text("q ends", style="dim"))

    def _run(self) -> None:
        while not self._stop.is_set():
            now = self._read()
            self._pair = (self._pair[1] if self._pair else now, now)
            self._stop.wait(EVERY_S)


def _watch(console: Console, reader: SnapshotReader, stop: threading.Event) -> None:
    newest = _Newest(reader.read)
    newest.start()
    with (
        _keys() as next_key,
        Live(get_renderable=newest.render, console=console, screen=True, refresh_per_second=4),
    ):
        while not stop.is_set() and next_key() != "q":
            continue
    newest.stop()


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Keys as they are pressed, without a return; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key() -> str:
    ready, _, _ = select.select([sys.stdin], [], [], KEY_S)
    return sys.stdin.read(1) if ready else ""


def _no_key() -> str:
    time.sleep(KEY_S)
    return ""
