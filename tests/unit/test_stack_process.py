"""A program that hl runs is waited for, whoever notices its end first."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hl_platform.stack.process import Child, Command
from hl_platform.stack.server import plain_environment


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(Command(["sleep", "3600"], plain_environment(tmp_path), tmp_path), tmp_path / "log")
    yield child
    child.kill()


def test_a_program_that_runs_has_not_ended(child: Child) -> None:
    assert not child.wait(0.01)


def test_a_wait_returns_when_the_program_ends(child: Child) -> None:
    threading.Timer(0.1, child.send, [signal.SIGKILL]).start()
    assert child.wait(3600)
    assert child.returncode == -signal.SIGKILL


def test_a_wait_after_the_end_returns_at_once(child: Child) -> None:
    child.kill()
    assert child.wait(3600)


def test_a_wait_returns_when_another_thread_has_noticed_the_end(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The program ends and is taken note of between the two steps of `wait`.
    def notice(self: Child, timeout_s: float) -> None:
        self.kill()
        wait_for_end(self, timeout_s)

    wait_for_end = Child._await_end
    monkeypatch.setattr(Child, "_await_end", notice)
    assert child.wait(3600)
