"""kill -9 of bridge and sink at random, again and again under load: rows sent = rows stored, exactly."""

import argparse
import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from hl_platform.adapters.mqtt.publisher import MqttPublisher
from tests.faults.chaos.household import Household, household
from tests.faults.chaos.site import open_site
from tests.faults.chaos.verdict import SETTLED
from tests.home import Home, eventually, reading

N_DEVICES = 50
# Seconds between two kills: now and then a process dies while it still starts.
PAUSE_S = (0.5, 5.0)
SLICE_S = 0.01
# Longest time without any further row before the last one, and for the broker's last acknowledgement.
STANDSTILL_S = 60.0
PROGRESS_EVERY = 10

ROWS = """
select count(*), count(distinct seq), count(*) filter (where is_as_sent)
from (
    select (extra ->> 'seq')::int as seq,
           device_id = 'meter' || (extra ->> 'seq')::int %% %s and total_energy_kwh = (extra ->> 'seq')::int
           as is_as_sent
    from {energy}
) as stored
"""


def main(arguments: argparse.Namespace, console: Console, results: Path) -> int:
    """Kills, waits for the last row, compares; 1 when anything is off."""
    log_path = results / "kills.log"
    log_path.unlink(missing_ok=True)
    with (
        open_site() as site,
        household(site, "chaos_kills", log_path, by_lines=False) as made,
    ):
        made.start("bridge")
        made.start("sink")
        made.await_true("a bridge is subscribed", lambda: made.home.has_bridge("energy"))
        began = time.monotonic()
        sender = Sender(made.home, arguments.rate)
        sender.start()
        try:
            kills = _kill(made, sender, arguments, console)
        finally:
            sender.finish()
        held_rate = sender.n_sent / sender.seconds
        console.print(f"{sender.n_sent:,} readings sent at {held_rate:,.0f}/s; waiting for the last row")
        faults = _await_verdict(made, sender.n_sent)
        outcome = {
            "ended_at": datetime.now(UTC),
            "seed": arguments.seed,
            "kills": dict(kills),
            "ended_by_themselves": made.restarted,
            "n_sent": sender.n_sent,
            "rate": held_rate,
            "sent_late_s": sender.latest_s,
            "seconds": time.monotonic() - began,
            "bridge": made.home.account("bridge"),
            "sink": made.home.account("sink"),
            "faults": faults,
        }
    if held_rate < 0.98 * arguments.rate:
        faults.append(f"the load was {held_rate:,.0f} readings/s instead of {arguments.rate:,}")
    (results / "kills.json").write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=2))
    console.print(outcome)
    console.print("\n".join(faults) or "Every reading sent is one row, in order, and the accounts balance.")
    return 1 if faults else 0


def _kill(made: Household, sender: "Sender", arguments: argparse.Namespace, console: Console) -> Counter[str]:
    rng = random.Random(arguments.seed)
    kills: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(1, arguments.n + 1):
        until = time.monotonic() + rng.uniform(*PAUSE_S)
        while time.monotonic() < until:
            made.tend()
            time.sleep(SLICE_S)
        name = rng.choice(["bridge", "sink"])
        made.kill(name)
        made.start(name)
        kills[name] += 1
        if number % PROGRESS_EVERY == 0:
            left_s = (time.monotonic() - began) / number * (arguments.n - number)
            console.print(
                f"{number} kills, {sender.n_sent:,} readings sent, {made.home.n_rows():,} rows, {left_s:.0f} s to go"
            )
    return kills


class Sender(threading.Thread):
    """Publishes readings of many devices at a rate; the broker acknowledges each.

    Args:
        home: where to.
        rate: readings per second.
    """

    def __init__(self, home: Home, rate: int) -> None:
        super().__init__(daemon=True)
        self._home, self._rate = home, rate
        self._ask_to_stop = threading.Event()
        self._publisher = MqttPublisher(home.settings.mqtt, "load", threading.Event())
        self.seconds = 0.0
        # How late a reading was, at most.
        self.latest_s = 0.0

    @property
    def n_sent(self) -> int:
        """Readings that the publisher has taken."""
        return self._publisher.sent

    def run(self) -> None:
        """Publishes what is due, slice by slice."""
        self._publisher.start()
        topics = [self._home.topic(f"meter{number}") for number in range(N_DEVICES)]
        base, began, seq, ends = datetime.now(UTC) - timedelta(seconds=60), time.monotonic(), 0, False
        while not ends:
            # What is due by then is sent also when the end is asked for: a rate is held or it is not.
            ends = self._ask_to_stop.wait(SLICE_S)
            due = int((time.monotonic() - began) * self._rate)
            for number in range(seq, due):
                at = base + timedelta(seconds=number / self._rate)
                payload = reading(at, total_energy_kwh=number, seq=number)
                self._publisher.publish(topics[number % N_DEVICES], payload)
            self.latest_s = max(self.latest_s, time.monotonic() - began - due / self._rate)
            seq = due
        self.seconds = time.monotonic() - began

    def finish(self) -> None:
        """Ends the load and waits until the broker has acknowledged all of it."""
        self._ask_to_stop.set()
        self.join()
        drained = self._publisher.drain(STANDSTILL_S)
        assert drained, "the broker did not acknowledge the load"
        assert self._publisher.rejected == 0
        self._publisher.close()


def _await_verdict(made: Household, n_sent: int) -> list[str]:
    deadline, n_rows = time.monotonic() + STANDSTILL_S, 0
    while (faults := _faults(made.home, n_sent)) and time.monotonic() < deadline:
        made.tend()
        time.sleep(0.5)
        if n_rows != (n_rows := made.home.n_rows()):
            deadline = time.monotonic() + STANDSTILL_S
    return faults + _disorder(made.home)


def _faults(home: Home, n_sent: int) -> list[str]:
    n_rows, n_different, n_as_sent = home.query(ROWS, N_DEVICES)[0]
    bridge, sink = home.account("bridge"), home.account("sink")
    facts = {
        "rows = sent": (n_rows, n_sent),
        "different readings = sent": (n_different, n_sent),
        "rows as sent = sent": (n_as_sent, n_sent),
        "bridge: received = sum of the rest": (bridge["received"], sum(bridge[name] for name in SETTLED)),
        "bridge: in flight": (bridge["in_flight"], 0),
        "bridge: forwarded = records on Kafka": (bridge["forwarded"], _n_records(home)),
        "sink: received = sum of the rest": (sink["received"], sum(sink[name] for name in SETTLED)),
        "sink: forwarded = rows": (sink["forwarded"], n_rows),
        "sink: received = records on Kafka": (sink["received"], _n_records(home)),
        "sink: dead letters": (sink["dead_lettered"], 0),
    }
    return [f"{name}: {one} and {other}" for name, (one, other) in facts.items() if one != other]


def _consumer(home: Home) -> tuple[Consumer, list[TopicPartition], int]:
    """A consumer at the beginning of all partitions, and how many records there are."""
    topic = home.energy.kafka_topic
    consumer = Consumer(
        {"bootstrap.servers": home.settings.kafka.bootstrap_servers or "", "group.id": f"{home.prefix}-look"}
    )
    places = [TopicPartition(topic, number, 0) for number in range(home.energy.kafka_partitions)]
    n_records = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
    return consumer, places, n_records


def _n_records(home: Home) -> int:
    consumer, _, n_records = _consumer(home)
    consumer.close()
    return n_records


def _disorder(home: Home) -> list[str]:
    """Devices whose readings are not on Kafka in the order in which they were sent, repetitions aside."""
    consumer, places, n_records = _consumer(home)
    consumer.assign(places)
    # The newest reading of each device so far: the next one of its own is N_DEVICES further.
    newest = {f"meter{number}": number - N_DEVICES for number in range(N_DEVICES)}
    disorderly: set[str] = set()
    while n_records > 0:
        messages = eventually(lambda: consumer.consume(10_000, timeout=1))
        n_records -= len(messages)
        for message in messages:
            body = msgspec.json.decode(message.value() or b"")
            device, seq = body["device_id"], body["seq"]
            if seq > newest[device] + N_DEVICES:
                disorderly.add(device)
            newest[device] = max(newest[device], seq)
    consumer.close()
    return [f"{len(disorderly)} devices changed their order: {sorted(disorderly)[:3]}"] if disorderly else []
