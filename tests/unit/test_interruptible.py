"""A termination lets the body of a service flush, and nothing breaks into that."""

import os
import signal
import threading

import dagster as dg
import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.defs.interruptible import run_interruptibly


def test_body_that_ends_by_itself_gives_its_result() -> None:
    assert run_interruptibly(lambda stop: not stop.is_set()) is True


def test_failure_of_the_body_is_the_failure_of_the_run() -> None:
    def body(_stop: threading.Event) -> None:
        raise ConfigError("HL_X=1 is not allowed")

    with pytest.raises(ConfigError, match="HL_X"):
        run_interruptibly(body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_a_row_wait_for_the_flush(number: signal.Signals) -> None:
    done = []

    def body(stop: threading.Event) -> None:
        for _ in range(3):
            os.kill(os.getpid(), number)
        stop.wait()
        os.kill(os.getpid(), number)
        done.append("flushed")

    with pytest.raises(dg.DagsterExecutionInterruptedError):
        run_interruptibly(body)
    assert done == ["flushed"]


def test_signals_mean_what_they_meant_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_interruptibly(lambda _stop: None)
    assert signal.getsignal(signal.SIGTERM) is before
