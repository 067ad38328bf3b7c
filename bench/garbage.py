"""Garbage beside good readings: what a message of it costs, and whether good traffic feels it."""

import argparse
import multiprocessing
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from confluent_kafka import Consumer, TopicPartition
from rich.table import Table

from bench.proof import delete_rows
from bench.stack import RunningStack, console, percentiles
from hl_platform.adapters.kafka.config import client_config
from hl_platform.adapters.mqtt.publisher import MqttPublisher
from hl_platform.core.sections import MqttSettings

TOLERATED = 1.1
PATIENCE_S = 600.0
# One in so many messages is larger than the limit.
HUGE_EVERY = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench garbage` takes."""
    parser.add_argument("--messages", type=int, default=1_000_000, help="of garbage, in all bursts together")
    parser.add_argument("--rounds", type=int, default=5, help="each has every case once, in turn")
    parser.add_argument(
        "--rate", type=int, default=100, help="good readings per second whose delay is measured"
    )
    parser.add_argument("--flood", type=int, default=2_000, help="messages per second beside them")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case with a flood")


def main(arguments: argparse.Namespace) -> int:
    """Sends, measures, compares; 1 when garbage costs more than good readings do."""
    stack, out = RunningStack(), console()
    bench = Bench(stack, f"bench-{secrets.token_hex(3)}")
    n = arguments.messages // arguments.rounds
    rates: dict[str, list[float]] = {"good": [], "garbage": []}
    delays: dict[str, list[float]] = {"alone": [], "beside good": [], "beside garbage": []}
    p99s: dict[str, list[float]] = {case: [] for case in delays}
    try:
        for number in range(arguments.rounds):
            out.print(f"Round {number + 1} of {arguments.rounds} …")
            for case in delays:
                found = bench.delays(case.removeprefix("beside "), arguments)
                delays[case] += found
                p99s[case].append(percentiles(found)[1])
            # Turned around every time, so that neither always follows the other.
            for kind in sorted(rates, reverse=bool(number % 2)):
                rates[kind].append(bench.burst(kind, n))
    finally:
        bench.clean_up()
    cost = statistics.median(rates["good"]) / statistics.median(rates["garbage"])
    table = Table(title=f"{arguments.rounds} rounds, {n:,} messages a burst")
    for head in ("case", "p50 ms", "p99 ms", "max ms", "p99 of each round, ms"):
        table.add_column(head, justify="left" if head == "case" else "right")
    for case, found in delays.items():
        figures = (f"{value * 1000:.1f}" for value in percentiles(found))
        table.add_row(case, *figures, " ".join(f"{value * 1000:.1f}" for value in p99s[case]))
    out.print(table)
    for kind, found in rates.items():
        out.print(
            f"{kind}, as fast as it goes: {statistics.median(found):,.0f}/s to Kafka; rounds: "
            + " ".join(f"{rate:,.0f}" for rate in found)
        )
    out.print(f"A message of garbage costs {cost:.2f} of a good reading.")
    return 0 if cost <= TOLERATED else 1


class Bench:
    """Sends to one stream of the running stack and looks at what reaches Kafka.

    Args:
        stack: which.
        prefix: of the devices.
    """

    def __init__(self, stack: RunningStack, prefix: str) -> None:
        self._stack = stack
        self._stream = stack.streams["energy"]
        self._prefix = prefix
        self._consumer = Consumer(
            {**client_config(stack.settings.kafka, prefix), "group.id": prefix, "enable.auto.commit": False}
        )

    def delays(self, beside: str, arguments: argparse.Namespace) -> list[float]:
        """Seconds from device to a reader of Kafka, of good readings beside a flood, or alone."""
        device = self._device("measured")
        self._consumer.assign(
            [TopicPartition(part.topic, part.partition, high) for part, high in self._ends(dead=False)]
        )
        flood = None
        if beside != "alone":
            n = round(arguments.flood * arguments.seconds)
            flood = self._sender(beside, n, arguments.flood)
        sender = self._sender("good", round(arguments.rate * arguments.seconds), arguments.rate, "measured")
        found: list[float] = []
        n_wanted = round(arguments.rate * arguments.seconds)
        until = time.monotonic() + PATIENCE_S
        while len(found) < n_wanted and time.monotonic() < until:
            for record in self._consumer.consume(1_000, timeout=0.1):
                if record.key() == device.encode():
                    sent_at = msgspec.json.decode(record.value() or b"", type=Sent).timestamp
                    found.append(datetime.now(UTC).timestamp() - sent_at.timestamp())
        for process in (sender, flood):
            if process is not None:
                process.join()
        assert len(found) == n_wanted, f"{n_wanted} sent, {len(found)} on Kafka"
        return found

    def burst(self, kind: str, n: int) -> float:
        """Messages per second from the first publish until Kafka has the last."""
        dead = kind == "garbage"
        before = sum(high for _, high in self._ends(dead=dead))
        began = time.monotonic()
        sender = self._sender(kind, n, None)
        while sum(high for _, high in self._ends(dead=dead)) - before < n:
            assert time.monotonic() - began < PATIENCE_S, (
                f"{n} messages did not reach Kafka in {PATIENCE_S:g} s"
            )
            time.sleep(0.05)
        took_s = time.monotonic() - began
        sender.join()
        return n / took_s

    def clean_up(self) -> None:
        """Takes the rows away again; dead letters stay until their retention ends."""
        self._consumer.close()
        devices = [self._device(name) for name in ("measured", "good")]
        delete_rows(self._stack, ["energy"], devices)

    def _ends(self, *, dead: bool) -> list[tuple[TopicPartition, int]]:
        topic = self._stream.dead_letter_topic if dead else self._stream.kafka_topic
        n_partitions = 1 if dead else self._stream.kafka_partitions
        parts = [TopicPartition(topic, number) for number in range(n_partitions)]
        return [(part, self._consumer.get_watermark_offsets(part, timeout=10)[1]) for part in parts]

    def _sender(
        self, kind: str, n: int, rate: int | None, name: str | None = None
    ) -> multiprocessing.process.BaseProcess:
        mqtt_topic = self._stream.mqtt_filter.removesuffix("#") + self._device(name or kind)
        # A process of its own: sending must not wait for this one's interpreter.
        process = multiprocessing.get_context("spawn").Process(
            target=send, args=(self._stack.settings.mqtt, mqtt_topic, kind, n, rate)
        )
        process.start()
        return process

    def _device(self, name: str) -> str:
        return f"{self._prefix}-{name}"


class Sent(msgspec.Struct):
    """What is wanted of a record."""

    timestamp: datetime


def send(mqtt: MqttSettings, mqtt_topic: str, kind: str, n: int, rate: int | None) -> None:
    """Publishes n messages at a rate, or as fast as the broker takes them, and waits until it has them all."""
    publisher = MqttPublisher(mqtt, "bench", threading.Event())
    publisher.start()
    payloads = garbage() if kind == "garbage" else good()
    began = time.monotonic()
    for number in range(n):
        if rate is not None and (wait_s := began + number / rate - time.monotonic()) > 0:
            time.sleep(wait_s)
        publisher.publish(mqtt_topic, next(payloads))
    publisher.drain(PATIENCE_S)
    publisher.close()


def good() -> Iterator[bytes]:
    """Readings of a meter, without end."""
    while True:
        yield msgspec.json.encode(
            {
                "timestamp": datetime.now(UTC),
                "total_energy_kwh": 12.45,
                "power_kw": 3.2,
                "voltage": 230,
                "current": 13.9,
            }
        )


def garbage() -> Iterator[bytes]:
    """Everything that is no reading, without end."""
    start = next(good())[:-1]
    kinds = [
        b"",
        b"   ",
        b"not json at all",
        b"[1, 2, 3]",
        b"\xff\xfe\x00\x01" * 30,
        b"\x00" * 100,
        b"NaN",
        b"[" * 200 + b"]" * 200,
        start.replace(b"3.2", b'"three"') + b"}",
        start.replace(b"3.2", b"null") + b"}",
        start + b', "power_kw": 1}',
        start + b', "x": NaN}',
        start + b', "x": 1e999}',
        start + b', "x": ' + b"9" * 400 + b"}",
        start + b', "x": "\\u0000"}',
    ]
    number = 0
    while True:
        number += 1
        yield b"x" * 100_000 if number % HUGE_EVERY == 0 else kinds[number % len(kinds)]
