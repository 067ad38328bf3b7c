"""Asks again and again, in a thread of its own, until somebody answers."""

import threading
from collections.abc import Callable

import structlog

from hl_platform.core.errors import HlError

log = structlog.get_logger()


class Probe:
    """Tells when a server that was away answers.

    Args:
        ask: returns when it answers, raises while it does not; whatever it raises, it is asked again.
        pause_s: between two tries.
    """

    def __init__(self, ask: Callable[[], None], pause_s: float) -> None:
        self._ask = ask
        self._pause_s = pause_s
        self._answered = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def answered(self) -> bool:
        """Whether it has answered since the last `begin`."""
        return self._answered.is_set()

    def begin(self) -> None:
        """Forgets the last answer and asks."""
        self._answered.clear()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Asks no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask()
            except HlError as exc:
                log.warning("kafka_away", error=str(exc))
            except Exception:
                # The supervisor's edge: with this thread the way back to Kafka would end, and nobody would notice.
                log.exception("probe_failed")
            else:
                self._answered.set()
                return
            self._stop.wait(self._pause_s)
