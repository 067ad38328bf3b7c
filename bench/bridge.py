"""How many readings the bridge carries, beside what reads MQTT or writes Kafka without its guarantees.

Needs no stack: starts a Mosquitto and a Kafka of its own. For each peer, in turns, the broker's queue of a persistent
session is filled, then the peer takes it; measured is from the first reading to the last that is done. After each run
of hl's bridge Kafka must hold exactly what was published, every device's readings in order, and the accounts balance.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka
import psutil
from rich.table import Table

from bench import mq_bridge
from bench.bridge_load import Plan, Publisher, make_session
from bench.bridge_log import Log
from bench.report import compare, machine, write_json
from bench.stack import console, own_layout, percentiles
from hl_platform.core.settings import MqttSettings
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port

PEERS = ("hl", "socket", "paho", "librdkafka", "mq-bridge")
ON_KAFKA = ("hl", "mq-bridge")
PATIENCE_S = 90.0
# How far a publisher may be ahead of the bridge while it is measured for long.
AHEAD = 20_000
PACED_RATE, PACED_S = 200.0, 10.0


class Run(NamedTuple):
    """What one peer did with one queue."""

    readings_per_s: float
    cpu_us: float
    peak_mb: float


class Site:
    """Servers of the measurement's own, and who works on them."""

    def __init__(self, stack: ExitStack) -> None:
        layout = stack.enter_context(own_layout())
        self.directory = layout.data_dir.parent
        self.mosquitto = EmbeddedMosquitto(layout, MqttSettings(port=free_port(), max_queued_bytes=2**32))
        self.kafka = EmbeddedKafka(layout, free_port())
        for server in (self.mosquitto, self.kafka):
            stack.callback(server.stop)
            server.start()
        for server in (self.mosquitto, self.kafka):
            server.wait_ready(60)
        self.address = (self.mosquitto.host, self.mosquitto.port)

    @contextmanager
    def peer(self, kind: str, client_id: str, topic: str, n: int) -> Iterator["Peer"]:
        """A peer at work."""
        spool = self.directory / topic
        spool.mkdir()
        command = [sys.executable, "-m", "bench.bridge_peers", kind]
        command += [str(self.mosquitto.port), self.kafka.bootstrap_servers, client_id, topic]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.directory / f"{topic}.log").open("w"),
            text=True,
            env={**os.environ, "BENCH_SPOOL": str(spool), "BENCH_N": str(n)},
        )
        try:
            yield Peer(process)
        finally:
            process.kill()
            process.wait()


class Peer:
    """What a peer's process says of itself."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def look(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            # Log lines go the same way.
            if line.startswith('{"n": '):
                return dict(json.loads(line))
            if "warning" in line or "error" in line:
                sys.stderr.write(line)
        message = f"a peer ended with {self._process.wait()}; see its log"
        raise SystemExit(message)

    def cpu_s(self) -> float:
        """Seconds of CPU it has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> dict[str, Any]:
        """Ends it; its last line."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = {}
        try:
            while True:
                last = self.look()
        except SystemExit:
            return last


def drain(peer: Peer, n: int, count: Callable[[], int] | None) -> Run:
    """Waits until a peer has done all; its speed from the first reading on.

    Args:
        peer: at work.
        n: how many there are.
        count: how many are done, where the peer cannot tell.
    """
    until = time.monotonic() + PATIENCE_S
    first: dict[str, Any] | None = None
    idle = peer.look()
    while True:
        now = peer.look()
        if count is not None:
            # Counting takes longer than the peer's lines do: they would be old.
            now |= {"n": count(), "at": time.time(), "cpu_s": peer.cpu_s()}
        if first is None:
            if now["n"]:
                first = idle
            idle = now
        if now["n"] >= n:
            break
        assert time.monotonic() < until, f"{now['n']} of {n} after {PATIENCE_S} s"
    assert first is not None
    seconds, cpu_s = now["at"] - first["at"], now["cpu_s"] - first["cpu_s"]
    return Run(n / seconds, cpu_s / n * 1e6, now["peak_mb"])


def measure(site: Site, kind: str, name: str, plan: Plan, n: int) -> Run:
    """One run of one peer, with its proof."""
    client_id, topic = f"{name}-bridge", f"bench.{name}"
    log = Log(site.kafka.bootstrap_servers, topic) if kind in ON_KAFKA else None
    if kind != "librdkafka":
        make_session(site.address, client_id)
        publisher = Publisher(site.address)
        publisher.publish(plan.take(n))
        publisher.close()
    with site.peer(kind, client_id, topic, n) as peer:
        run = drain(peer, n, log.count if kind == "mq-bridge" and log else None)
        last = peer.end()
    if kind == "hl":
        assert log is not None
        log.check(plan.expected)
        check_account(last["account"], n)
    return run


def check_account(account: dict[str, int], n: int) -> None:
    """Fails unless everything was received and forwarded once."""
    wanted = {"received": n, "forwarded": n, "dead_lettered": 0, "in_flight": 0}
    assert account == wanted, f"accounts: {account}, not {wanted}"


def sustain(site: Site, seed: int, seconds: float) -> tuple[Run, int]:
    """The bridge beside a publisher that is never far ahead of it; also how many readings that were."""
    name = "sustained"
    make_session(site.address, f"{name}-bridge")
    log = Log(site.kafka.bootstrap_servers, f"bench.{name}")
    publisher, plan = Publisher(site.address), Plan(seed)
    with site.peer("hl", f"{name}-bridge", f"bench.{name}", 0) as peer:
        first = now = peer.look()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            publisher.publish(plan.take(2_000))
            while plan.n - now["n"] > AHEAD:
                now = peer.look()
        while now["n"] < plan.n:
            now = peer.look()
        last = peer.end()
    publisher.close()
    check_account(last["account"], plan.n)
    log.check(plan.expected)
    per_s, cpu_s = plan.n / (now["at"] - first["at"]), now["cpu_s"] - first["cpu_s"]
    return Run(per_s, cpu_s / plan.n * 1e6, now["peak_mb"]), plan.n


def pace(site: Site, seed: int) -> tuple[float, float, float]:
    """Delay from the publisher to a Kafka consumer at an easy rate, in ms: p50, p99, maximum."""
    make_session(site.address, "paced-bridge")
    log = Log(site.kafka.bootstrap_servers, "bench.paced")
    plan = Plan(seed)
    with site.peer("hl", "paced-bridge", "bench.paced", 0) as peer, log.tailing() as delays:
        peer.look()
        publisher = Publisher(site.address)
        # The first ones find connections being made.
        publisher.pace(plan.take(50), PACED_RATE)
        until = time.monotonic() + PATIENCE_S
        while len(delays) < plan.n and time.monotonic() < until:
            time.sleep(0.1)
        delays.clear()
        publisher.pace(plan.take(round(PACED_RATE * PACED_S)), PACED_RATE)
        time.sleep(1)
        publisher.close()
        peer.end()
    log.check(plan.expected)
    p50, p99, worst = percentiles(delays)
    return p50 * 1000, p99 * 1000, worst * 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench bridge` takes."""
    parser.add_argument("--n", type=int, default=200_000, help="readings per run")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each peer, in turns")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS))
    parser.add_argument("--sustain", type=float, default=60.0, help="seconds beside a publisher; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints."""
    out = console()
    peers, where = arguments.peers, machine()
    runs: dict[str, list[Run]] = {kind: [] for kind in peers}
    sustained, paced = None, None
    with ExitStack() as stack:
        site = Site(stack)
        for number in range(arguments.repeat):
            for kind in peers:
                run = measure(
                    site, kind, f"{kind.replace('-', '')}{number}", Plan(arguments.seed), arguments.n
                )
                runs[kind].append(run)
                out.print(f"{kind}: {run.readings_per_s:,.0f}/s, {run.cpu_us:.1f} µs of CPU")
        if "hl" in peers and arguments.sustain:
            sustained = sustain(site, arguments.seed, arguments.sustain)
        if "hl" in peers:
            paced = pace(site, arguments.seed)
    out.print(make_table(arguments, runs))
    if sustained is not None:
        run, n = sustained
        out.print(
            f"Beside a publisher, {arguments.sustain:g} s: {n:,} readings, {run.readings_per_s:,.0f}/s, "
            f"{run.cpu_us:.1f} µs of CPU each, {run.peak_mb:.0f} MB at most."
        )
    if paced is not None:
        out.print(
            f"At {PACED_RATE:g}/s, publisher to Kafka consumer: "
            f"p50 {paced[0]:.1f} ms, p99 {paced[1]:.1f} ms, max {paced[2]:.1f} ms."
        )
    out.print("Kafka holds exactly the readings that were published, in order per device; accounts balance.")
    if arguments.json:
        write_json(arguments.json, {"machine": where, **to_json(arguments, runs, sustained, paced)})
    return 0


def make_table(arguments: argparse.Namespace, runs: dict[str, list[Run]]) -> Table:
    """One row for each peer."""
    table = Table(title=f"{arguments.n:,} readings at QoS 1, {arguments.repeat} runs in turns")
    for head in ("peer", "readings/s: median", "min", "max", "hl / peer", "CPU µs each", "peak MB"):
        table.add_column(head, justify="left" if head == "peer" else "right")
    medians = {kind: statistics.median(run.readings_per_s for run in of) for kind, of in runs.items()}
    for kind, of in runs.items():
        speeds = [run.readings_per_s for run in of]
        ratio = f"{medians['hl'] / medians[kind]:.2f}" if "hl" in medians else ""
        table.add_row(
            kind,
            *(f"{speed:,.0f}" for speed in (medians[kind], min(speeds), max(speeds))),
            ratio,
            f"{statistics.median(run.cpu_us for run in of):.1f}",
            f"{max(run.peak_mb for run in of):.0f}",
        )
    return table


def to_json(
    arguments: argparse.Namespace,
    runs: dict[str, list[Run]],
    sustained: tuple[Run, int] | None,
    paced: tuple[float, float, float] | None,
) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "versions": {"mq-bridge": mq_bridge.version(), "librdkafka": confluent_kafka.libversion()[0]},
        "comparisons": compare(
            "MQTT → Kafka",
            "readings/s",
            {kind: [run.readings_per_s for run in of] for kind, of in runs.items()},
        ),
        "seed": arguments.seed,
        "n": arguments.n,
        "runs": {kind: [run._asdict() for run in of] for kind, of in runs.items()},
        "sustained": sustained and {**sustained[0]._asdict(), "n": sustained[1]},
        "paced_ms": paced and dict(zip(("p50", "p99", "max"), paced, strict=True)),
    }
