"""`python -m bench.sink_peer NAME KAFKA_TOPIC`: a sink service of energy, on a Kafka topic of its own."""

import os
import signal
import sys
import threading

from msgspec.structs import replace

from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.runtime import spare_what_is_loaded
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import Service
from hl_platform.streams import load_streams


def main() -> None:
    """Runs until SIGTERM."""
    name, kafka_topic = sys.argv[1:]
    settings, stop = load_settings(os.environ), threading.Event()
    configure_logging(settings.log)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stream = replace(load_streams()["energy"], kafka_topic=kafka_topic)
    spare_what_is_loaded()
    run_service(settings, Service(name, "sink", (stream,), keeps_index=name.endswith("-1")), "", stop)


if __name__ == "__main__":
    main()
