import random

import pytest

from hl_platform.adapters.kafka.producer import MAX_RECORD_BYTES
from hl_platform.adapters.kafka.topics import plan_topics
from hl_platform.adapters.postgres.connection import connection_string
from hl_platform.adapters.postgres.migrate import load_migrations
from hl_platform.core.accounts import Account, StageStats
from hl_platform.core.errors import ConfigError
from hl_platform.core.routing import Router
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.services import find_service, plan_services
from hl_platform.streams import load_streams

STREAMS = load_streams()


def test_one_bridge_and_one_sink_by_default():
    services = plan_services(load_settings({}), STREAMS)
    assert [(service.name, service.stage) for service in services] == [("bridge", "bridge"), ("sink", "sink")]


def test_several_bridges_and_a_sink_per_stream_when_asked_for():
    settings = load_settings({"HL_BRIDGE__INSTANCES": "2", "HL_SINK__LAYOUT": "per_stream"})
    names = [service.name for service in plan_services(settings, STREAMS)]
    assert names == ["bridge-1", "bridge-2", "sink-energy", "sink-heatpump", "sink-temperature"]


def test_several_sinks_share_their_streams_and_one_keeps_the_index_of_dead_letters():
    settings = load_settings({"HL_SINK__INSTANCES": "2"})
    sinks = [service for service in plan_services(settings, STREAMS) if service.stage == "sink"]
    assert [(sink.name, len(sink.streams), sink.keeps_index) for sink in sinks] == [
        ("sink-1", len(STREAMS), True),
        ("sink-2", len(STREAMS), False),
    ]


def test_an_unknown_service_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match="The services are bridge, sink"):
        find_service(load_settings({}), STREAMS, "bridg")


@pytest.mark.parametrize(
    ("mqtt_topic", "stream"),
    [
        ("homelab/energy/meter1", "energy"),
        ("homelab/energy/cellar/meter1", "energy"),
        ("homelab/energy", "energy"),
        ("homelab/energyx/meter1", None),
        ("homelab/temperature/attic", "temperature"),
        ("other", None),
    ],
)
def test_topic_belongs_to_the_stream_whose_filter_matches(mqtt_topic: str, stream: str | None):
    found = Router(STREAMS.values()).stream_of(mqtt_topic)
    assert (found.name if found else None) == stream


@pytest.mark.parametrize(
    ("n_brokers", "replication", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (5, 3, "2")]
)
def test_topics_are_replicated_as_far_as_the_cluster_allows(n_brokers: int, replication: int, in_sync: str):
    readings, dead_letters = plan_topics(KafkaSettings(), STREAMS["energy"], n_brokers)
    assert (readings.topic, readings.num_partitions) == ("homelab.energy", 3)
    assert (dead_letters.topic, dead_letters.num_partitions) == ("homelab.energy.dlq", 1)
    assert readings.replication_factor == replication
    assert readings.config["min.insync.replicas"] == in_sync
    assert readings.config["retention.ms"] == str(7 * 86_400_000)
    assert readings.config["message.timestamp.type"] == "LogAppendTime"
    # Above what a producer of ours sends at once, whatever the cluster's own limit is.
    for topic in (readings, dead_letters):
        assert int(topic.config["max.message.bytes"]) > MAX_RECORD_BYTES


def test_an_account_balances_by_definition_and_shows_what_is_in_flight():
    stats = StageStats()
    stats.count("energy", received=5)
    stats.count("energy", forwarded=2, dead_lettered=1)
    assert stats.snapshot()["energy"].in_flight == 2


def test_a_snapshot_does_not_change_with_what_is_counted_later():
    stats = StageStats()
    stats.count("energy", received=1)
    before = stats.snapshot()
    stats.count("energy", received=1)
    assert before == {"energy": Account(received=1)}


def test_delays_are_handed_over_once():
    stats = StageStats()
    for delay_ms in random.Random(0).sample(range(1000), 10):
        stats.delay("device_to_row", delay_ms)
    assert stats.take_delays()["device_to_row"].n == 10
    assert stats.take_delays() == {}


def test_an_invalid_database_url_is_refused_without_repeating_it():
    with pytest.raises(ConfigError) as refused:
        connection_string("postgresql://user:secret@[broken", application_name="test")
    assert "secret" not in str(refused.value)


def test_no_two_migrations_have_the_same_number():
    versions = [migration.version for migration in load_migrations()]
    assert versions == sorted(set(versions))
