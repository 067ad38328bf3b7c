import errno
import io
import json
from pathlib import Path

import pytest
import structlog

from hl_platform.adapters import log_output
from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.sections import LogSettings


class Disk(io.StringIO):
    """A file on a disk that can be full."""

    is_full = False

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def events(text: str) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines() if line]


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


def test_a_line_that_cannot_be_written_is_no_error_of_who_wrote_it():
    # Unbuffered: what a buffer keeps would make the end of the file fail.
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        configure_logging(LogSettings(format="json"), full)
        structlog.get_logger().warning("heartbeat_failed")


def test_a_closed_stream_is_no_error_of_who_writes_a_line():
    output = io.StringIO()
    configure_logging(LogSettings(format="json"), output)
    output.close()
    structlog.get_logger().warning("heartbeat_failed")


@pytest.mark.parametrize(("log_format", "said"), [("json", '"n_lines": 2'), ("console", "n_lines=2")])
def test_the_first_line_after_a_full_disk_is_preceded_by_how_many_were_lost(log_format: str, said: str):
    disk = Disk()
    configure_logging(LogSettings(format=log_format), disk)
    log = structlog.get_logger()
    disk.is_full = True
    log.warning("first")
    log.warning("second")
    disk.is_full = False
    log.warning("third")
    log.warning("fourth")
    lost, third, fourth = [line for line in disk.getvalue().splitlines() if line]
    assert "log_lines_lost" in lost
    assert said in lost
    assert "third" in third
    assert "fourth" in fourth


def test_a_full_disk_under_one_output_costs_the_other_nothing(tmp_path: Path):
    disk = Disk()
    disk.is_full = True
    configure_logging(LogSettings(format="json", dir=str(tmp_path)), disk, service="bridge")
    structlog.get_logger().info("bridge_started")
    assert events((tmp_path / "bridge.log").read_text()) == ["bridge_started"]


def test_a_grown_log_that_cannot_begin_anew_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_output, "MAX_FILE_BYTES", 10)
    file = log_output.LogFile(tmp_path / "sink.log")
    (tmp_path / "sink.log.1").mkdir()
    for line in ("first, and long enough\n", "second\n", "third\n"):
        file.write(line)
    assert (tmp_path / "sink.log").read_text() == "first, and long enough\nsecond\nthird\n"


def test_half_a_line_is_a_lost_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = log_output.os.write
    file = log_output.LogFile(tmp_path / "sink.log")
    monkeypatch.setattr(log_output.os, "write", lambda descriptor, line: write(descriptor, line[:3]))
    with pytest.raises(OSError, match="part of a line"):
        file.write("a long line\n")
