"""What accounts must agree with: the records on Kafka, and what the sink has read."""

from hl_platform.core.coverage import FORWARDED, bridge_of_record
from tests.home import Home


def n_on_kafka(home: Home, kind: str) -> int:
    """Energy records on Kafka that a bridge of ours wrote."""
    topic = home.energy.kafka_topic if kind == FORWARDED else home.energy.dead_letter_topic
    return sum(
        bool(bridge_of_record(kind, found.value() or b"", found.headers() or []))  # type: ignore[arg-type]
        for found in home.records(topic)
    )


def n_read_from_bridges(home: Home) -> int:
    """Energy records of ours that the sink has counted."""
    rows = home.query(
        "select coalesce(sum(n_records), 0)::bigint from hl.coverage "
        "where stage = 'sink' and bridge <> '' and stream = %s",
        home.energy.name,
    )
    return int(rows[0][0])
