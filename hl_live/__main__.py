"""`python -m hl_live` runs the live service."""

import logging
import os
import sys

import structlog

from hl_live.app import create_app
from hl_live.server import serve
from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.runtime import spare_what_is_loaded
from hl_platform.adapters.tracing import open_tracing
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings

log = structlog.get_logger()

EXIT_CONFIG = 2


def main() -> int:
    """Runs until a signal; returns the exit code."""
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log)
        logging.getLogger().addHandler(_ToStructlog(level=logging.WARNING))
        tracing = open_tracing(settings.tracing.endpoint, "live")
        app = create_app(settings, tracing=tracing)
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_CONFIG
    log.info("live_starting", host=settings.live.host, port=settings.live.port)
    spare_what_is_loaded()
    serve(app, settings.live, tracing)
    if tracing is not None:
        tracing.close()
    log.info("live_stopped")
    return 0


class _ToStructlog(logging.Handler):
    """Gives what libraries log the form of our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info if record.exc_info and record.exc_info[0] else None
        log.log(
            record.levelno, "library_message", library=record.name, text=record.getMessage(), exc_info=fault
        )


if __name__ == "__main__":
    sys.exit(main())
