"""A process is told from others, also from a later one of the same number, whatever the clock says."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hl_platform.adapters.processes import ProcessId, identify, kill_process, process_gone


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = identify(process.pid)
    assert found is not None
    return found


def test_living_process_is_not_gone(child: subprocess.Popen[bytes]) -> None:
    assert not process_gone(identity(child))


def test_identity_survives_being_written_down(child: subprocess.Popen[bytes]) -> None:
    assert ProcessId.parse(identity(child).text) == identity(child)


@pytest.mark.parametrize("text", ["", "host", "host 12", "host x born"])
def test_anything_else_names_no_process(text: str) -> None:
    assert ProcessId.parse(text) is None


def test_ended_process_is_gone_even_while_its_parent_has_not_noticed(child: subprocess.Popen[bytes]) -> None:
    process = identity(child)
    assert kill_process(process)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_gone(process)


def test_nothing_is_certain_about_another_machine(child: subprocess.Popen[bytes]) -> None:
    process = identity(child)._replace(host="elsewhere")
    child.kill()
    child.wait()
    assert not process_gone(process)


def test_process_of_another_machine_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    assert not kill_process(identity(child)._replace(host="elsewhere"))
    assert child.poll() is None


def test_later_process_of_the_same_number_is_another_one(child: subprocess.Popen[bytes]) -> None:
    earlier = identity(child)._replace(born="another boot+1")
    assert process_gone(earlier)
    assert not kill_process(earlier)
    assert child.poll() is None
