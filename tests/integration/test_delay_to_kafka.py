"""The delay from a device until Kafka has its reading, by the time that Kafka notes."""

from collections import Counter
from datetime import UTC, datetime

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from hl_platform.adapters.kafka.topics import ensure_topics
from tests.faults.kafka_log import recreate_topic
from tests.home import Home, eventually, reading, record


def measured(home: Home) -> dict[str, int]:
    found = home.query(
        "select measure, sum(n)::int from hl.delays cross join lateral unnest(counts) as n group by 1"
    )
    return {measure: n for measure, n in found if n}


def test_each_live_reading_is_measured_at_every_stage(home: Home):
    with home.running("bridge", "sink"):
        home.publish(*((home.topic(f"meter{n}"), reading(datetime.now(UTC))) for n in range(5)))
        eventually(
            lambda: measured(home),
            lambda found: found == {"device_to_mqtt": 5, "device_to_kafka": 5, "device_to_row": 5},
        )


def test_what_lies_on_kafka_from_before_is_stored_and_not_measured(home: Home):
    # As Kafka makes a topic that is not told otherwise.
    recreate_topic(home)
    kinds: Counter[int] = Counter()

    def send_one() -> bool:
        home.produce(record("meter1", datetime.now(UTC)))
        messages = home.records(home.energy.kafka_topic)
        kinds.clear()
        kinds.update(message.timestamp()[0] for message in messages)
        return TIMESTAMP_LOG_APPEND_TIME in kinds

    def alter_and_send_one() -> bool:
        # For a moment a broker may tell the settings of the topic that had this name before.
        ensure_topics(home.settings.kafka, home.streams.values())
        return send_one()

    assert not send_one()
    eventually(alter_and_send_one)
    with home.running("sink"):
        eventually(lambda: measured(home), lambda found: found.get("device_to_row") == kinds.total())
    assert measured(home)["device_to_kafka"] == kinds[TIMESTAMP_LOG_APPEND_TIME]
