"""Three Kafka brokers on this machine: the leader dies under load, and every reading is one row, in order."""

import threading
from collections import defaultdict
from collections.abc import Iterator

import msgspec
import pytest

from hl_platform.adapters.kafka.config import admin_client
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.faults.test_kill import assert_every_reading_is_one_row, crashing, kill_and_start, send_in_parts
from tests.home import Home, eventually, reading
from tests.servers import kafka_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def brokers() -> Iterator[list[EmbeddedKafka]]:
    with kafka_cluster(3) as brokers:
        yield brokers


@pytest.fixture
def clustered(database_url: str, brokers: list[EmbeddedKafka], mosquitto: EmbeddedMosquitto) -> Home:
    """A household on the cluster."""
    # A broker answers before all three know each other, and topics get as many copies as there are brokers.
    servers = ",".join(broker.bootstrap_servers for broker in brokers)
    home = Home(database_url, servers, (mosquitto.host, mosquitto.port))
    eventually(lambda: len(admin_client(home.settings.kafka, "look").list_topics(timeout=10).brokers) == 3)
    home.prepare()
    return home


def partitions_of(home: Home) -> list[tuple[int, list[int], list[int]]]:
    """Leader, replicas and in-sync replicas of each partition of the energy topic."""
    metadata = admin_client(home.settings.kafka, "look").list_topics(home.energy.kafka_topic, timeout=10)
    partitions = metadata.topics[home.energy.kafka_topic].partitions
    return [(found.leader, found.replicas, found.isrs) for _, found in sorted(partitions.items())]


def leader_of(home: Home, kafka_partition: int, brokers: list[EmbeddedKafka]) -> EmbeddedKafka:
    return brokers[partitions_of(home)[kafka_partition][0] - 1]


def seqs_by_device(home: Home) -> dict[str | None, list[int]]:
    """What is on the energy topic, the first occurrence of each reading, by device in Kafka's order."""
    found: dict[str | None, dict[int, None]] = defaultdict(dict)
    for message in home.records(home.energy.kafka_topic):
        body = msgspec.json.decode(message.value() or b"")
        found[body["device_id"]].setdefault(body["seq"])
    return {device: list(seqs) for device, seqs in found.items()}


def test_topics_have_three_replicas_of_which_two_must_be_in_sync(clustered: Home) -> None:
    assert [len(replicas) for _, replicas, _ in partitions_of(clustered)] == [3, 3, 3]


def test_killed_leaders_lose_no_reading_repeat_none_and_keep_the_order_of_devices(
    clustered: Home, brokers: list[EmbeddedKafka]
) -> None:
    def kill_a_leader(part: int) -> None:
        if part in (1, 3):
            # The one of another partition the second time, once the first is back and has caught up.
            eventually(lambda: all(len(isrs) == 3 for _, _, isrs in partitions_of(clustered)), patience_s=60)
            kill_and_start(leader_of(clustered, part // 2, brokers))

    with crashing(clustered):
        n_sent = send_in_parts(clustered, 5, kill_a_leader)
        assert_every_reading_is_one_row(clustered, n_sent)
    seqs = seqs_by_device(clustered)
    assert seqs == {device: sorted(own) for device, own in seqs.items()}


def test_two_of_three_brokers_gone_is_an_outage_that_is_waited_out(
    clustered: Home, brokers: list[EmbeddedKafka]
) -> None:
    gone = [broker for broker in brokers if broker is not leader_of(clustered, 0, brokers)]
    with crashing(clustered) as crash:
        n_before = send_in_parts(clustered, 1, lambda _part: None)
        assert_every_reading_is_one_row(clustered, n_before)
        for broker in gone:
            broker.kill()
        clustered.publish(*((clustered.topic("meter1"), reading(seq=-n)) for n in range(1, 201)))
        # Nothing can be written: the bridge holds what it has, and nobody gives up meanwhile.
        threading.Event().wait(3)
        held = clustered.n_rows() - n_before
        for broker in gone:
            broker.start()
        for broker in gone:
            broker.wait_ready()
        assert_every_reading_is_one_row(clustered, n_before + 200)
        alive = [process.poll() for process in crash.processes.values()]
    assert (held, alive) == (0, [None, None])
