"""`python -m bench.sink_peer NAME KAFKA_TOPIC`: one of several sinks that share the partitions of a topic of energy.

As its service runs it, but without the index of dead letters, which only one process may keep.
"""

import os
import signal
import sys
import threading

from msgspec.structs import replace

from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.postgres.lease_keeper import LeaseKeeper
from hl_platform.adapters.postgres.leases import Holder
from hl_platform.core.accounts import StageStats
from hl_platform.core.settings import load_settings, require_address
from hl_platform.pipeline.run_service import make_sink
from hl_platform.pipeline.services import Service
from hl_platform.streams import load_streams


def main() -> None:
    """Runs until SIGTERM."""
    name, kafka_topic = sys.argv[1:]
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    stream = replace(load_streams()["energy"], kafka_topic=kafka_topic)
    ensure_topics(settings.kafka, [stream])
    stats, stop = StageStats(), threading.Event()
    url = require_address(settings.database.url, "database", "url")
    keeper = LeaseKeeper(
        url, Holder(name, "sink", ""), settings.service, stats, on_end=stop.set, with_accounts=False
    )
    keeper.acquire(stop)
    sink = make_sink(
        settings,
        Service(name, "sink", (stream,)),
        stream,
        KafkaProducer(settings.kafka, f"hl-{name}"),
        stats,
        tracing=None,
        lease_epoch=keeper.epoch,
    )
    signal.signal(signal.SIGTERM, lambda *_: sink.stop())
    sink.run()
    keeper.release()


if __name__ == "__main__":
    main()
