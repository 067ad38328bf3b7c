"""mq-bridge (PyPI), the peer that bridge and sink are measured beside, as a process of its own.

`python -m bench.mq_bridge ROUTE` runs a route, given as JSON, until it is told to stop.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any

import psutil

# How long its orderly end may take, in seconds.
STOP_S = 10


def version() -> str:
    """Which mq-bridge is installed here."""
    return metadata.version("mq-bridge")


@contextmanager
def running(route: Mapping[str, Any]) -> Iterator[psutil.Process]:
    """A process that runs a route for as long as the context lasts."""
    command = [sys.executable, "-m", "bench.mq_bridge", json.dumps(route)]
    with subprocess.Popen(command) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Runs a route until SIGTERM."""
    library = import_module("mq_bridge")
    route = library.Route.from_config(json.loads(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: route.stop())
    route.run()


if __name__ == "__main__":
    main()
