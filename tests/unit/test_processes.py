"""A process is told from others, also from a later one of the same number."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from hl_platform.adapters.processes import kill_process, process_gone

HERE = socket.gethostname()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_living_process_is_not_gone(child: subprocess.Popen[bytes]) -> None:
    assert not process_gone(HERE, child.pid, time.time())


def test_ended_process_is_gone_even_while_its_parent_has_not_noticed(child: subprocess.Popen[bytes]) -> None:
    seen_at = time.time()
    assert kill_process(HERE, child.pid, seen_at)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_gone(HERE, child.pid, seen_at)


def test_nothing_is_certain_about_another_machine(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert not process_gone("elsewhere", child.pid, time.time())


def test_process_of_another_machine_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    assert not kill_process("elsewhere", child.pid, time.time())
    assert child.poll() is None


def test_later_process_of_the_same_number_is_another_one(child: subprocess.Popen[bytes]) -> None:
    an_hour_ago = time.time() - 3600
    assert process_gone(HERE, child.pid, an_hour_ago)
    assert not kill_process(HERE, child.pid, an_hour_ago)
    assert child.poll() is None
