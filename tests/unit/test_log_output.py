import io

import pytest
import structlog

from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.settings import LogSettings


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_does_not_repeat_what_variables_hold(log_format: str):
    output = io.StringIO()
    before = structlog.get_config()
    configure_logging(LogSettings(format=log_format), output)
    try:
        secret = "hunter2"
        try:
            raise ValueError(len(secret))
        except ValueError:
            structlog.get_logger().exception("it_failed")
    finally:
        structlog.configure(**before)
    assert "it_failed" in output.getvalue()
    assert "ValueError" in output.getvalue()
    assert secret not in output.getvalue()
