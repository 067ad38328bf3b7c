"""Runs a service's body so that a termination in Dagster lets it flush first, however often it is repeated."""

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import dagster as dg

T = TypeVar("T")

# Interrupts are raised between two calls; a longer one would delay the answer to a termination.
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
    thread.start()
    try:
        _join(thread)
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        # The process ends after this, so nobody needs these signals again. A second one would break into
        # the flush, or into Dagster's last event.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.set()
        _join(thread)
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _join(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(timeout=JOIN_S)
