"""The probe goes on until Kafka answers, whatever goes wrong meanwhile."""

from collections.abc import Callable

from structlog.testing import capture_logs

from hl_platform.core.errors import TransientError
from hl_platform.pipeline.probe import Probe
from tests.home import eventually


def failing_with(*errors: Exception) -> Callable[[], None]:
    """Asks that fail, one with each of these, and then one that is answered."""
    left = list(errors)

    def ask() -> None:
        if left:
            raise left.pop(0)

    return ask


def test_probe_that_failed_in_a_way_nobody_thought_of_is_logged_and_asks_again() -> None:
    probe = Probe(failing_with(TransientError("away"), ZeroDivisionError()), 0.001)
    with capture_logs() as logs:
        probe.begin()
        eventually(lambda: probe.answered)
    assert [line["event"] for line in logs] == ["kafka_away", "probe_failed"]


def test_probe_that_is_stopped_asks_no_more() -> None:
    probe = Probe(failing_with(*[TransientError("away")] * 1_000_000), 0.001)
    with capture_logs():
        probe.begin()
        probe.stop()
        assert probe._thread is not None
        probe._thread.join(10)
    assert not probe._thread.is_alive()
    assert not probe.answered
