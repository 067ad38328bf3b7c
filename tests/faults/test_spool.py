"""Kafka away for longer than MQTT's window is deep, and the bridge killed meanwhile and while it drains."""

import random

import msgspec
import pytest

from hl_platform.adapters.directories import spool_directory
from hl_platform.adapters.spool import Spool
from hl_platform.stack.kafka import EmbeddedKafka
from tests.faults.test_kill import Crash
from tests.home import Home, eventually, reading

N_DEVICES = 20
N_READINGS = 20_000
PART = 4_000


def publish_part(home: Home, start: int) -> None:
    """Readings with a number for the whole load; a device's own are those of one remainder."""
    messages = [
        (home.topic(f"meter{number % N_DEVICES}"), reading(seq=number))
        for number in range(start, start + PART)
    ]
    home.publish(*messages)


def spooled_bytes(home: Home) -> int:
    return sum(path.stat().st_size for path in home.directory.rglob("spool.db*"))


def spooled_entries(home: Home) -> list[bytes]:
    """What a spool that nobody uses holds."""
    found: list[bytes] = []
    directory = spool_directory(home.settings, "bridge")
    Spool(directory, max_bytes=2**30, on_found=found.extend, on_damage=found.append).close()
    return found


def kill_bridge(crash: Crash) -> None:
    crash.kill("bridge")
    crash.start("bridge")


@pytest.mark.timeout(400)
def test_long_outage_of_kafka_with_kills_of_the_bridge_loses_and_reorders_nothing(
    home_of_its_own: Home, own_kafka: EmbeddedKafka
):
    home, rng = home_of_its_own, random.Random(1)
    home.env |= {"HL_BRIDGE__SPOOL_AFTER_S": "1", "HL_MQTT__RECEIVE_MAXIMUM": "2000"}
    crash = Crash(home)
    try:
        crash.start("bridge")
        eventually(home.has_bridge)
        publish_part(home, 0)
        own_kafka.kill()
        for start in range(PART, N_READINGS, PART):
            publish_part(home, start)
            if start == 2 * PART:
                eventually(lambda: spooled_bytes(home) > 100_000)
                kill_bridge(crash)
        # Everything was published, so all but what MQTT still holds is in the spool: far more than its window.
        eventually(lambda: home.account("bridge")["in_flight"], lambda n: n > N_READINGS / 2, patience_s=90)
        eventually(lambda: spooled_bytes(home), lambda n: n > 2 * 2_000 * 100, patience_s=90)
        own_kafka.start()
        own_kafka.wait_ready()
        n_before = eventually(lambda: len(home.records(home.energy.kafka_topic)), patience_s=60)
        eventually(
            lambda: len(home.records(home.energy.kafka_topic)),
            lambda n: n > n_before + rng.randint(100, 2_000),
            patience_s=60,
        )
        kill_bridge(crash)
        crash.start("sink")
        eventually(home.n_rows, lambda n: n >= N_READINGS, patience_s=120)
        eventually(lambda: home.account("bridge")["in_flight"] == 0)
    finally:
        crash.end()
    assert home.query("select count(*), count(distinct extra ->> 'seq') from {energy}") == [
        (N_READINGS, N_READINGS)
    ]
    assert unordered_devices(home) == []
    assert spooled_entries(home) == []


def unordered_devices(home: Home) -> list[str]:
    """Devices whose readings, each where it came first, are not on Kafka in the order in which they were sent."""
    order: dict[str, list[int]] = {}
    for record in home.records(home.energy.kafka_topic):
        order.setdefault(record.key().decode(), []).append(msgspec.json.decode(record.value())["seq"])
    firsts = {device: list(dict.fromkeys(numbers)) for device, numbers in order.items()}
    return [device for device, numbers in firsts.items() if numbers != sorted(numbers)]
