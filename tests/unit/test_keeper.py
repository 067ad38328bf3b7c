"""What keeps a program running is not ended by a full disk, a slow program or another hl."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psutil
import pytest
import structlog
from rich.console import Console
from rich.text import Text

from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import LogSettings
from hl_platform.core.settings import load_settings
from hl_platform.stack import files, keeper, state, supervisor, up
from hl_platform.stack.display import ProgressView, show
from hl_platform.stack.keeper import Keeper
from hl_platform.stack.layout import Layout, make_directories
from hl_platform.stack.lock import DataDirLock
from hl_platform.stack.process import Command
from hl_platform.stack.server import Server, StartError, plain_environment
from hl_platform.stack.state import ProgramState, read_state
from hl_platform.stack.supervisor import Stack

FULL = OSError(errno.ENOSPC, "No space left on device")
SLOW = subprocess.TimeoutExpired("initdb", 60)


class Sleeper(Server):
    """A program that runs until it is ended, and whose preparation can fail once."""

    def __init__(self, logs: Path) -> None:
        super().__init__("sleeper", logs)
        self.fault: Exception | None = None

    def prepare(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    def command(self) -> Command:
        argv = ["sh", "-c", "echo a line; exec sleep 3600"]
        return Command(argv, plain_environment(self.log_path.parent), self.log_path.parent)

    def is_ready(self) -> bool:
        return self.pid is not None


def run_a_stack(data_dir: Path) -> None:
    """A stack of one program, until it is told to end; says when it runs."""
    layout = Layout(data_dir, data_dir, None)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    stack = Stack(load_settings({}), layout, {}, ProgressView(Console(file=io.StringIO())))
    stack.claim()
    (kept,) = stack._start([Sleeper(layout.logs)])
    await_that(lambda: kept.is_ready)
    click.echo("ready")
    stack.wait(stop)
    stack.stop()


class Disk:
    """Can be full: then nothing that is written through it arrives."""

    def __init__(self, work: Callable[..., object]) -> None:
        self.is_full = False
        self.n_refused = 0
        self._work = work

    def __call__(self, *arguments: object) -> object:
        if self.is_full:
            self.n_refused += 1
            raise FULL
        return self._work(*arguments)


class FullFile(io.StringIO):
    """Where a person would see something, if there were room."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise FULL
        return super().write(text)


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", tmp_path / "cache", None)
    make_directories(layout)
    return layout


@pytest.fixture
def sleeper(layout: Layout) -> Sleeper:
    return Sleeper(layout.logs)


@pytest.fixture
def kept(sleeper: Sleeper) -> Iterator[Keeper]:
    kept = Keeper(sleeper, on_change=lambda: None, on_death=lambda _message, _lines: None)
    yield kept
    kept.wait_stopped()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(state.write_private)
    monkeypatch.setattr(state, "write_private", disk)
    return disk


@pytest.fixture
def stack(layout: Layout, sleeper: Sleeper, disk: Disk) -> Iterator[Stack]:
    """A stack of one program, which runs."""
    stack = Stack(load_settings({}), layout, {}, ProgressView(Console(file=io.StringIO())))
    stack.claim()
    (kept,) = stack._start([sleeper])
    await_that(lambda: kept.is_ready)
    yield stack
    disk.is_full = False
    stack.stop()


def _kill(sleeper: Sleeper) -> int:
    """Ends the program as a crash would; returns the pid that it had."""
    assert sleeper.child is not None
    pid = sleeper.child.pid
    sleeper.child.send(signal.SIGKILL)
    return pid


@pytest.mark.parametrize("fault", [FULL, SLOW])
def test_a_first_start_that_fails_says_why(kept: Keeper, sleeper: Sleeper, fault: Exception) -> None:
    sleeper.fault = fault
    kept.start()
    await_that(lambda: kept.state.state == "failed")
    assert isinstance(kept.error, StartError)
    assert str(kept.error) == f"sleeper could not be started: {fault}"


@pytest.mark.parametrize("fault", [FULL, SLOW])
def test_a_restart_that_fails_is_tried_again(kept: Keeper, sleeper: Sleeper, fault: Exception) -> None:
    kept.start()
    await_that(lambda: kept.is_ready)
    sleeper.fault = fault
    before = _kill(sleeper)
    await_that(lambda: sleeper.pid not in (None, before))
    assert kept.state.restarts == 2


def test_a_grown_log_on_a_full_disk_ends_nobody(
    kept: Keeper, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOG_CHECK_S", 0)
    monkeypatch.setattr(keeper, "MAX_LOG_BYTES", 1)
    disk = Disk(files.shutil.copyfile)
    disk.is_full = True
    monkeypatch.setattr(files.shutil, "copyfile", disk)
    kept.start()
    await_that(lambda: kept.is_ready)
    pid = sleeper.pid
    await_that(lambda: disk.n_refused >= 2)
    assert sleeper.pid == pid


@pytest.mark.usefixtures("stack")
def test_a_program_that_dies_on_a_full_disk_is_started_again(sleeper: Sleeper, disk: Disk) -> None:
    disk.is_full = True
    before = _kill(sleeper)
    await_that(lambda: sleeper.pid not in (None, before))


def test_the_state_is_told_once_there_is_room_again(
    stack: Stack, layout: Layout, sleeper: Sleeper, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STATE_AGAIN_S", 0.01)
    disk.is_full = True
    before = _kill(sleeper)
    await_that(lambda: stack._keepers["sleeper"].state.restarts == 1)
    await_that(lambda: sleeper.pid not in (None, before))
    await_that(lambda: stack._keepers["sleeper"].state.state == "running")
    stop = threading.Event()
    waiting = threading.Thread(target=stack.wait, args=(stop,))
    waiting.start()
    try:
        disk.is_full = False
        await_that(lambda: _told_pid(layout) == sleeper.pid)
    finally:
        stop.set()
        waiting.join()


def _told_pid(layout: Layout) -> int | None:
    told = read_state(layout.data_dir)
    return told.programs[0].pid if told is not None else None


def test_a_stack_on_a_full_disk_can_be_stopped(stack: Stack, sleeper: Sleeper, disk: Disk) -> None:
    pid = sleeper.pid
    assert pid is not None
    disk.is_full = True
    stack.stop()
    assert not psutil.pid_exists(pid)


def test_what_cannot_be_shown_ends_nobody() -> None:
    view = ProgressView(Console(file=FullFile()))
    view.states([ProgramState("kafka", "running")])
    view.tell("kafka ended with exit code 1.", ["its last line"])


def test_what_could_not_be_shown_is_not_repeated() -> None:
    file = FullFile()
    console = Console(file=file)
    show(console, Text("lost"))
    file.is_full = False
    show(console, Text("seen"))
    assert file.getvalue() == "seen\n"


def test_the_log_of_hl_up_fails_neither_at_a_line_nor_at_its_end() -> None:
    with up._open_log(Path("/dev/full")) as log_file:
        configure_logging(LogSettings(format="json"), log_file)
        structlog.get_logger().warning("program_died")


def test_a_stack_that_does_not_hold_the_directory_leaves_it_alone(layout: Layout) -> None:
    (layout.run / "connection.json").write_text("{}")
    Stack(load_settings({}), layout, {}, ProgressView(Console(file=io.StringIO()))).stop()
    assert (layout.run / "connection.json").exists()


def test_the_later_of_two_hl_up_touches_nothing_of_the_first(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DataDirLock(layout.data_dir)

    def check_before_the_first_locks(*_arguments: object) -> None:
        first.acquire()
        (layout.run / "connection.json").write_text("{}")
        (layout.logs / "hl.log").write_text("of the first")

    monkeypatch.setattr(up, "check_all", check_before_the_first_locks)
    environment = {"HL_DATA_DIR": str(layout.data_dir), "HL_RUNTIME_DIR": str(layout.runtime_dir)}
    try:
        with pytest.raises(ConfigError, match="in use by another hl"):
            up.run_foreground(environment, Console(file=io.StringIO()))
    finally:
        first.release()
    assert (layout.run / "connection.json").exists()
    assert (layout.logs / "hl.log").read_text() == "of the first"


def test_the_later_of_two_detached_leaves_the_log_of_the_first_where_it_is(
    own_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = own_layout
    first = DataDirLock(layout.data_dir)

    def check_before_the_first_locks(*_arguments: object) -> None:
        first.acquire()
        (layout.logs / "hl-up.log").write_text("of the first")

    monkeypatch.setattr(up, "check_all", check_before_the_first_locks)
    own = {"HL_DATA_DIR": str(layout.data_dir), "HL_RUNTIME_DIR": str(layout.runtime_dir)}
    try:
        with pytest.raises(StartError, match="in use by another hl"):
            up.run_detached({**os.environ, **own}, Console(file=io.StringIO()))
    finally:
        first.release()
    logs = {path.name: path.read_text() for path in layout.logs.iterdir()}
    assert (logs, list(layout.run.iterdir())) == ({"hl-up.log": "of the first"}, [])


def test_hl_down_tells_of_each_thing_that_it_stopped(layout: Layout) -> None:
    code = f"from pathlib import Path; from {__name__} import run_a_stack; run_a_stack(Path({str(layout.data_dir)!r}))"
    shown = io.StringIO()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        up.stop_running(load_settings({"HL_DATA_DIR": str(layout.data_dir)}), Console(file=shown))
    assert "sleeper: stopped\n" in shown.getvalue()
