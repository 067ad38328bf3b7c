"""`hl up`, in the foreground and detached, and `hl down`."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import click
import psutil
from rich.console import Console
from rich.text import Text

from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.settings import Settings, load_settings
from hl_platform.stack.checks import check_all
from hl_platform.stack.connection import read_connection
from hl_platform.stack.display import ENDED, ProgressView, address_table, show
from hl_platform.stack.files import rotate, tail
from hl_platform.stack.layout import Layout, plan_directories, plan_layout
from hl_platform.stack.lock import holder_of, lives
from hl_platform.stack.server import StartError
from hl_platform.stack.state import last_state, read_state
from hl_platform.stack.supervisor import Stack

POLL_S = 0.2
# Above the ten seconds that an orderly end takes, and below anyone's patience.
DOWN_TIMEOUT_S = 30.0
# Of what a detached one tells.
UP_LOG = "hl-up.log"


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything runs, and leave it running.")
@click.option("--no-simulator", is_flag=True, help="Do not run the simulated home.")
# What a detached one writes to until it holds the data directory.
@click.option("--output", type=click.Path(path_type=Path), hidden=True)
def up(*, detach: bool, no_simulator: bool, output: Path | None) -> None:
    """Start everything; Ctrl-C stops it."""
    environment = dict(os.environ)
    if no_simulator:
        environment["HL_SIMULATOR__ENABLED"] = "false"
    if detach:
        run_detached(environment, Console())
    else:
        run_foreground(environment, Console(), output)


@click.command()
def down() -> None:
    """Stop what runs, also in the background."""
    stop_running(load_settings(os.environ), Console())


def run_foreground(environment: Mapping[str, str], console: Console, output: Path | None = None) -> None:
    """Runs the stack until a signal asks for its end.

    Args:
        environment: of the stack.
        console: where it is told.
        output: the console's file, which becomes the log `hl-up` once the data directory is ours.

    Raises:
        HlError: why it cannot run; everything that was started has ended.
    """
    settings, layout = _checked(environment, console)
    view = ProgressView(console)
    stack = Stack(settings, layout, environment, view)
    # Before the logs are touched: until then they may be another hl's.
    stack.claim()
    if output is not None:
        rotate(layout.logs / UP_LOG)
        output.rename(layout.logs / UP_LOG)
    with _open_log(layout.logs / "hl.log") as log_file:
        configure_logging(settings.log, log_file)
        with _stop_on_signals(stack, console) as stop:
            try:
                with view:
                    stack.start(stop)
                if not stop.is_set():
                    show(console, address_table(stack.settings))
                    show(console, Text("Ctrl-C stops it.", style="dim"))
                    stack.wait(stop)
            finally:
                began = time.monotonic()
                with ProgressView(console, ENDED) as ending:
                    stack.set_audience(ending)
                    stack.stop()
                show(console, f"hl has stopped, in {time.monotonic() - began:.1f} s.")


def run_detached(environment: Mapping[str, str], console: Console) -> None:
    """Starts `hl up` in the background and returns when it runs.

    Raises:
        HlError: why it cannot run.
    """
    _, layout = _checked(environment, console)
    output = layout.run / f"hl-up.{os.getpid()}"
    with output.open("wb") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "hl_platform.cli", "up", "--output", str(output)],
            env=dict(environment),
            cwd=layout.run,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with ProgressView(console) as view:
        while True:
            state = read_state(layout.data_dir)
            if state is not None and state.pid == process.pid:
                view.states(state.programs)
                if state.phase == "ready":
                    break
            if process.poll() is not None:
                said = tail(output, 20) or tail(layout.logs / UP_LOG, 20)
                output.unlink(missing_ok=True)
                raise StartError("\n".join(said) or "hl ended without a word.")
            time.sleep(POLL_S)
    console.print(address_table(load_settings(read_connection(environment))))
    console.print(Text("It runs in the background: `hl status`, `hl logs`, `hl down`.", style="dim"))


def stop_running(settings: Settings, console: Console) -> None:
    """Ends the stack that runs on the data directory, and returns when it has ended.

    Raises:
        StartError: it does not end.
    """
    data_dir, _ = plan_directories(settings)
    pid = holder_of(data_dir)
    if pid is None:
        console.print("hl is not running.")
        return
    began = time.monotonic()
    try:
        process = psutil.Process(pid)
        process.terminate()
    except psutil.NoSuchProcess:
        console.print("hl has stopped.")
        return
    except psutil.AccessDenied as exc:
        raise StartError(
            f"hl (pid {pid}) belongs to another user. Run `hl down` as who ran `hl up`."
        ) from exc
    with ProgressView(console, ENDED) as view:
        # To its end: when it has let go of the directory, it still has a last word to say.
        while True:
            # Once more behind its end: the last ones to stop are told between two looks.
            has_ended = not lives(process)
            state = last_state(data_dir, pid)
            if state is not None:
                view.states(state.programs)
            if has_ended:
                break
            if time.monotonic() - began > DOWN_TIMEOUT_S:
                raise StartError(
                    f"hl (pid {pid}) has not ended after {DOWN_TIMEOUT_S:g} s. Run `kill -9 {pid}`."
                )
            time.sleep(POLL_S / 2)
    console.print(f"hl has stopped, in {time.monotonic() - began:.1f} s.")


def _checked(environment: Mapping[str, str], console: Console) -> tuple[Settings, Layout]:
    settings = load_settings(environment)
    layout = plan_layout(settings)
    check_all(settings, layout, lambda message: console.print(Text(f"{message} …", style="dim")))
    return settings, layout


def _open_log(path: Path) -> io.TextIOWrapper:
    rotate(path)
    # Without a buffer: what a full disk does not take would be kept in it, and fail once more when the file is closed.
    return io.TextIOWrapper(path.open("ab", buffering=0), encoding="utf-8", write_through=True)


@contextlib.contextmanager
def _stop_on_signals(stack: Stack, console: Console) -> Iterator[threading.Event]:
    """Sets the event at the first signal, and ends everything at once at the second."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            stack.kill()
            return
        stop.set()
        show(console, Text("Stopping; Ctrl-C again ends everything at once.", style="dim"))

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
