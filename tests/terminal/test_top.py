"""`hl top` and the backlog in `hl status` on a running household."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.home import PATIENCE_S, eventually
from tests.terminal.flow import Flow


def test_one_frame_has_stages_budgets_and_lag(flow: Flow):
    done = flow.hl("top", "--once")
    assert done.exit_code == 0
    for expected in ("bridge", "sink", "live", "timescaledb-energy", "Readings a second", "800", "400"):
        assert expected in done.stdout


def test_silent_device_is_named_with_how_long(flow: Flow):
    flow.store("forgotten", (datetime.now(UTC) - timedelta(hours=5), 1.0, 1.0))
    assert "energy forgotten 5.0 h" in flow.hl("top", "--once", COLUMNS="200").stdout.replace("\n", " ")


def test_status_and_top_show_what_waits_for_a_refresh(flow: Flow):
    flow.store(
        "waits", *((datetime.now(UTC) - timedelta(hours=hours), hours * -1.0, 1.0) for hours in (30, 29))
    )
    backlog = {one["model"]: one for one in flow.hl_json("status")["refresh_backlog"]}
    assert backlog["energy_hourly"]["n_buckets"] >= 1
    assert "energy_hourly" in flow.hl("top", "--once").stdout


@contextmanager
def on_a_terminal(flow: Flow) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`hl top` on a terminal, and the file by which it is seen and typed at."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **flow.env, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    command = [sys.executable, "-m", "hl_platform.cli", "top"]
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("way", ["q", "ctrl-c"])
def test_it_is_shown_on_a_terminal_until_it_is_ended(flow: Flow, way: str):
    with on_a_terminal(flow) as (process, terminal):
        shown = bytearray()

        def is_shown() -> bool:
            shown.extend(os.read(terminal, 65_536))
            return b"Readings a second" in shown

        eventually(is_shown)
        if way == "q":
            os.write(terminal, b"q")
        else:
            process.send_signal(signal.SIGINT)
        # Its last words must not wait for us.
        eventually(lambda: _drained(terminal) or process.poll() is not None)
        assert process.wait(PATIENCE_S) == 0


def _drained(terminal: int) -> bool:
    try:
        os.read(terminal, 65_536)
    except OSError:
        return True
    return False


def test_outage_is_said_and_ends_nothing(flow: Flow):
    done = flow.hl("top", "--once", HL_DATABASE__URL="postgresql://hl@127.0.0.1:1/hl")
    assert (done.exit_code, "PostgreSQL does not tell" in done.stdout) == (0, True)
