"""`python -m hl_platform.pipeline SERVICE` runs one bridge or sink in the foreground, without Dagster."""

import os
import signal
import sys
import threading

from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.runtime import spare_what_is_loaded
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import find_service
from hl_platform.streams import load_streams


def main() -> None:
    """Runs until SIGTERM or SIGINT, or until a successor takes over."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log)
        service = find_service(settings, load_streams(settings.streams_dir), " ".join(sys.argv[1:]))
        spare_what_is_loaded()
        run_service(settings, service, "", stop)
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
