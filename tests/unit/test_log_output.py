import io
from pathlib import Path

import pytest
import structlog

from hl_platform.adapters import log_output
from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.sections import LogSettings


def fail_with(secret: str) -> None:
    raise ValueError(len(secret))


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_does_not_repeat_what_variables_hold(log_format: str):
    output = io.StringIO()
    configure_logging(LogSettings(format=log_format), output)
    secret = "hunter2"
    try:
        fail_with(secret)
    except ValueError:
        structlog.get_logger().exception("it_failed")
    assert "it_failed" in output.getvalue()
    assert "ValueError" in output.getvalue()
    assert secret not in output.getvalue()


def test_a_service_writes_to_its_own_file_as_well(tmp_path: Path):
    output = io.StringIO()
    configure_logging(LogSettings(format="json", dir=str(tmp_path)), output, service="bridge")
    structlog.get_logger().info("bridge_started")
    assert (tmp_path / "bridge.log").read_text() == output.getvalue()


def test_a_grown_log_begins_anew_and_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_output, "MAX_FILE_BYTES", 10)
    file = log_output.LogFile(tmp_path / "sink.log")
    for line in ("first, and long enough\n", "second\n"):
        file.write(line)
        file.flush()
    assert (tmp_path / "sink.log").read_text() == "second\n"
    assert (tmp_path / "sink.log.1").read_text() == "first, and long enough\n"
