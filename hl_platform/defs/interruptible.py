"""Runs a service's body so that a termination in Dagster lets it flush first, however often it is repeated."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import dagster as dg

T = TypeVar("T")

# What Dagster's termination and an operating system's shutdown send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A signal's handler runs between two joins at the latest.
JOIN_S = 0.25


def run_interruptibly(body: Callable[[threading.Event], T]) -> T:
    """The body's result; the body runs in a thread, so that no signal ever breaks into it.

    Args:
        body: works until it returns by itself or the event it is given is set.

    Raises:
        DagsterExecutionInterruptedError: after an orderly end that a termination asked for.
        Exception: whatever the body raised.

    Guarantee: the body has ended when this returns or raises.
    """
    stop = threading.Event()
    outcome: list[T] = []
    failure: list[Exception] = []

    def work() -> None:
        try:
            outcome.append(body(stop))
        except Exception as exc:  # noqa: BLE001 - raised again by the main thread
            failure.append(exc)

    thread = threading.Thread(target=work, name="service", daemon=True)
    with _setting_on_signals(stop):
        thread.start()
        while thread.is_alive():
            thread.join(timeout=JOIN_S)
    if failure:
        raise failure[0]
    if stop.is_set():
        raise dg.DagsterExecutionInterruptedError
    return outcome[0]


@contextmanager
def _setting_on_signals(stop: threading.Event) -> Iterator[None]:
    """Signals set the event and do nothing else.

    Dagster's own handler raises, and a termination signals more than once: the second exception would break
    into the handling of the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = [(number, signal.signal(number, handle)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
