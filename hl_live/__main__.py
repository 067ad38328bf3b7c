"""`python -m hl_live` runs the live service."""

import os
import sys

import structlog

from hl_live.app import create_app
from hl_live.server import serve
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings

log = structlog.get_logger()

EXIT_CONFIG = 2


def main() -> int:
    """Runs until a signal; returns the exit code."""
    try:
        settings = load_settings(os.environ)
        app = create_app(settings)
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_CONFIG
    log.info("live_starting", host=settings.live.host, port=settings.live.port)
    serve(app, settings.live)
    log.info("live_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
