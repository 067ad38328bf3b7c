"""Kafka to rows: the sink with marks and without, beside mq-bridge, plain COPY and single INSERTs of the same readings.

Needs no stack: Kafka and PostgreSQL are its own, every run has a database of its own, all read the same topic. Only hl
deduplicates, keeps its offsets in the rows' transaction and counts: after each of its runs every reading must be one
row, and the account must balance.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import psycopg
from rich.table import Table

from bench import mq_bridge
from bench.report import compare, machine, names_of, spread, write_json
from bench.sink_runs import CONTENDERS, Run, SinkBench
from bench.stack import console, own_kafka
from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.sections import LogSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench sink` takes."""
    parser.add_argument("--readings", type=int, default=300_000)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3, help="rounds, each of all contenders in turn")
    parser.add_argument("--only", type=names_of(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--batch-rows", type=int, default=1_000, help="what mq-bridge takes at once")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Runs the rounds and prints a table; 1 when a reading is missing or an account does not balance."""
    out, where = console(), machine()
    configure_logging(LogSettings(level="warning"))
    found: dict[str, list[Run]] = defaultdict(list)
    with own_kafka() as kafka:
        bench = SinkBench(kafka, arguments.readings, arguments.devices, arguments.batch_rows)
        out.print(f"Putting {arguments.readings:,} readings of {arguments.devices:,} devices on Kafka …")
        bench.fill()
        chosen = {name: run for name, run in CONTENDERS.items() if name in arguments.only}
        for number in range(arguments.repeat):
            for name, run in chosen.items():
                found[name].append(run(bench))
                out.print(f"round {number + 1}, {name}: {found[name][-1].rows_per_s:,.0f} rows/s")
    wrong = [f"{name}: {run.wrong}" for name, runs in found.items() for run in runs if run.wrong]
    table = Table(title=f"Kafka to rows: {arguments.readings:,} readings of {arguments.devices:,} devices")
    for head in ("", "rows/s", "hl is", "µs of CPU a row: client", "PostgreSQL"):
        table.add_column(head, justify="right" if head else "left")
    ours = spread(run.rows_per_s for run in found["hl"]).median if "hl" in found else None
    for name, runs in found.items():
        rate = spread(run.rows_per_s for run in runs)
        ratio = f"{ours / rate.median:.2f} times" if ours and rate.median else ""
        costs = (spread(run.client_us for run in runs).median, spread(run.server_us for run in runs).median)
        table.add_row(name, str(rate), ratio, *(f"{cost:.1f}" for cost in costs))
    out.print(table)
    if arguments.json:
        versions = {"mq-bridge": mq_bridge.version(), "psycopg": psycopg.__version__}
        write_json(
            arguments.json,
            {
                "machine": where,
                "versions": versions,
                "arguments": vars(arguments),
                "comparisons": compare(
                    "Kafka → rows",
                    "rows/s",
                    {name: [run.rows_per_s for run in runs] for name, runs in found.items()},
                ),
                "runs": {name: [run._asdict() for run in runs] for name, runs in found.items()},
            },
        )
    out.print("\n".join(wrong) or "Every reading is one row, and the accounts balance.")
    return 1 if wrong else 0
