"""How many readings the bridge carries, beside what reads MQTT or writes Kafka without its guarantees.

Needs no stack: starts a Mosquitto and a Kafka of its own. For each peer, in turns, the broker's queue of a persistent
session is filled, then the peer takes it; measured is from the first reading to the last that is done. After each run
of hl's bridge Kafka must hold exactly what was published, every device's readings in order, and the accounts balance.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import confluent_kafka
from rich.table import Table

from bench import mq_bridge
from bench.bridge_load import Plan, Publisher, end_session, make_session
from bench.bridge_log import Log
from bench.bridge_site import PATIENCE_S, Run, Site, drain
from bench.report import compare, machine, names_of, write_json
from bench.stack import console, percentiles

PEERS = ("hl", "socket", "paho", "librdkafka", "mq-bridge")
ON_KAFKA = ("hl", "mq-bridge")
# How far a publisher may be ahead of the bridge while it is measured for long.
AHEAD = 20_000
PACED_RATE, PACED_S = 200.0, 10.0


def measure(site: Site, kind: str, name: str, plan: Plan, n: int, *, n_peers: int = 1) -> Run:
    """One run of one peer, or of several of our bridges, with its proof."""
    topic = f"bench.{name}"
    ids = [f"{name}-bridge{f'-{number + 1}' if n_peers > 1 else ''}" for number in range(n_peers)]
    log = Log(site.kafka.bootstrap_servers, topic) if kind in ON_KAFKA else None
    if kind != "librdkafka":
        for client_id in ids:
            make_session(site.address, client_id, is_shared=n_peers > 1)
        publisher = Publisher(site.address)
        publisher.publish(plan.take(n))
        publisher.close()
    with ExitStack() as stack:
        peers = [stack.enter_context(site.peer(kind, client_id, topic, n, n_peers)) for client_id in ids]
        if kind == "hl":
            for peer in peers:
                peer.begin()
        run = drain(peers, n, log.count if kind == "mq-bridge" and log else None)
        lasts = [peer.end() for peer in peers]
    if kind != "librdkafka":
        for client_id in ids:
            end_session(site.address, client_id)
    if kind == "hl":
        assert log is not None
        log.check(plan.expected, in_order=n_peers == 1)
        check_account([last["account"] for last in lasts], n)
    return run


def check_account(accounts: Sequence[dict[str, int]], n: int) -> None:
    """Fails unless everything was received and forwarded once."""
    found = {key: sum(account[key] for account in accounts) for key in accounts[0]}
    wanted = {"received": n, "forwarded": n, "dead_lettered": 0, "in_flight": 0}
    assert found == wanted, f"accounts: {found}, not {wanted}"


def sustain(site: Site, seed: int, seconds: float) -> tuple[Run, int]:
    """The bridge beside a publisher that is never far ahead of it; also how many readings that were."""
    name = "sustained"
    make_session(site.address, f"{name}-bridge")
    log = Log(site.kafka.bootstrap_servers, f"bench.{name}")
    publisher, plan = Publisher(site.address), Plan(seed)
    with site.peer("hl", f"{name}-bridge", f"bench.{name}", 0) as peer:
        peer.begin()
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
    check_account([last["account"]], plan.n)
    log.check(plan.expected)
    per_s, cpu_s = plan.n / (now["at"] - first["at"]), now["cpu_s"] - first["cpu_s"]
    return Run(per_s, cpu_s / plan.n * 1e6, now["peak_mb"]), plan.n


def pace(site: Site, seed: int) -> tuple[float, float, float]:
    """Delay from the publisher to a Kafka consumer at an easy rate, in ms: p50, p99, maximum."""
    make_session(site.address, "paced-bridge")
    log = Log(site.kafka.bootstrap_servers, "bench.paced")
    plan = Plan(seed)
    with site.peer("hl", "paced-bridge", "bench.paced", 0) as peer, log.tailing() as delays:
        peer.begin()
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
    parser.add_argument("--peers", type=names_of(PEERS), default=list(PEERS))
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
