"""What a reading costs with many devices, with several bridges and sinks, and in a table that is full.

Needs no stack: servers are its own. A bridge takes a full queue of Mosquitto; sinks are ready before the readings come
to their Kafka topic, and each run has a database of its own. After every run each reading must be on Kafka, or in the
table, once, and the accounts balance.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from bench.bridge import measure
from bench.bridge_load import Plan
from bench.bridge_site import Site
from bench.report import machine, names_of, write_json
from bench.sink_scale import SinksAtScale
from bench.stack import console, own_kafka
from hl_platform.adapters.log_output import configure_logging
from hl_platform.core.sections import LogSettings

# Where it is not the number of devices that is varied.
N_DEVICES = 1_000
# Ten times as many devices should cost no more than so much more by reading.
GOAL = 1.10
BRIDGE_DEVICES, BRIDGES = "bridge, devices", "bridges"
SINK_DEVICES, SINK_FIRST = "sink, devices", "sink, each the first of its device's hour"
SINKS, FULL_TABLE = "sinks", "sink, rows there before"
SERIES = (BRIDGE_DEVICES, BRIDGES, SINK_DEVICES, SINK_FIRST, SINKS, FULL_TABLE)


class Figure(NamedTuple):
    """What one run gave.

    Args:
        cpu_us: by reading, of bridges, or of sinks and PostgreSQL.
        wrong: what does not hold; empty where all does.
    """

    readings_per_s: float
    cpu_us: float
    wrong: str = ""


class Point(NamedTuple):
    """One line of the table.

    Args:
        series: what is varied.
        number: how many.
        runs: repeats.
    """

    series: str
    number: int
    runs: list[Figure]

    @property
    def readings_per_s(self) -> float:
        """Median of the runs."""
        return statistics.median(run.readings_per_s for run in self.runs)

    @property
    def cpu_us(self) -> float:
        """Median of the runs."""
        return statistics.median(run.cpu_us for run in self.runs)

    def tenfold(self, first: "Point") -> float:
        """By what factor the cost of a reading rises for ten times as many, since the first point."""
        return float((self.cpu_us / first.cpu_us) ** (1 / math.log10(self.number / first.number)))


Run = Callable[[], Figure]
Runs = list[tuple[str, int, Run]]


def plan_bridges(site: Site, arguments: argparse.Namespace, number: int) -> Runs:
    """The runs of one round of the bridge."""

    def run(name: str, n_devices: int, n_bridges: int) -> Figure:
        plan = Plan(1, n_devices)
        try:
            found = measure(site, "hl", f"{name}r{number}", plan, arguments.readings, n_peers=n_bridges)
        except AssertionError as exc:
            return Figure(0, 0, str(exc))
        return Figure(found.readings_per_s, found.cpu_us)

    return [
        *((BRIDGE_DEVICES, n, lambda n=n: run(f"devices{n}", n, 1)) for n in arguments.devices),
        *((BRIDGES, n, lambda n=n: run(f"bridges{n}", N_DEVICES, n)) for n in arguments.processes),
    ]


def plan_sinks(kafka: str, arguments: argparse.Namespace) -> Runs:
    """The runs of one round of the sink."""

    def run(n_devices: int, n_sinks: int = 1, n_before: int = 0, *, only_first: bool = False) -> Figure:
        n_readings = 0 if only_first else arguments.readings
        bench = SinksAtScale(kafka, n_readings, n_devices, max(arguments.processes))
        found = bench.run(n_sinks, n_before)
        return Figure(found.rows_per_s, found.client_us + found.server_us, found.wrong)

    most = max(arguments.devices)
    return [
        *((SINK_DEVICES, n, lambda n=n: run(n)) for n in arguments.devices),
        (SINK_FIRST, most, lambda: run(most, only_first=True)),
        *((SINKS, n, lambda n=n: run(N_DEVICES, n)) for n in arguments.processes),
        *((FULL_TABLE, n, lambda n=n: run(N_DEVICES, n_before=n)) for n in arguments.rows),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench scale` takes."""
    parser.add_argument("--readings", type=int, default=100_000, help="of each run")
    parser.add_argument("--repeat", type=int, default=2, help="rounds; the full tables are in the first only")
    parser.add_argument("--devices", type=_numbers, default=[10, 1_000, 100_000])
    parser.add_argument("--processes", type=_numbers, default=[1, 2, 4], help="bridges, and sinks")
    parser.add_argument(
        "--rows", type=_numbers, default=[100_000, 1_000_000, 10_000_000], help="in the table before"
    )
    parser.add_argument("--only", type=names_of(SERIES, ";"), default=list(SERIES))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when a reading is not there once, or an account does not balance."""
    out, where = console(), machine()
    configure_logging(LogSettings(level="warning"))
    points: dict[tuple[str, int], Point] = {}

    def note(runs: Iterable[tuple[str, int, Run]], number: int) -> None:
        for series, n, run in runs:
            if series in arguments.only and not (number and series == FULL_TABLE):
                figure = run()
                points.setdefault((series, n), Point(series, n, [])).runs.append(figure)
                out.print(
                    f"{series}, {n:,}: {figure.readings_per_s:,.0f}/s, {figure.cpu_us:.1f} µs of CPU {figure.wrong}"
                )

    with ExitStack() as stack:
        site = Site(stack)
        for number in range(arguments.repeat):
            note(plan_bridges(site, arguments, number), number)
    with own_kafka() as kafka:
        for number in range(arguments.repeat):
            note(plan_sinks(kafka, arguments), number)
    ordered = [points[key] for key in sorted(points, key=lambda key: (SERIES.index(key[0]), key[1]))]
    out.print(make_table(arguments.readings, ordered))
    out.print(f"The goal for devices: ten times as many cost at most {GOAL:.2f} of a reading's CPU.")
    wrong = [f"{p.series}, {p.number:,}: {run.wrong}" for p in ordered for run in p.runs if run.wrong]
    out.print("\n".join(wrong) or "Each reading is there once, and the accounts balance.")
    if arguments.json:
        figures = [{**p._asdict(), "runs": [run._asdict() for run in p.runs]} for p in ordered]
        write_json(arguments.json, {"machine": where, "arguments": vars(arguments), "points": figures})
    return 1 if wrong else 0


def make_table(n_readings: int, points: Iterable[Point]) -> Table:
    """Each series beside its first point."""
    table = Table(
        title=f"scale: {n_readings:,} readings of each run, medians; ratios to the first of a series"
    )
    for head in ("varied", "number", "readings/s", "ratio", "CPU µs each", "ratio", "for ten times as many"):
        table.add_column(head, justify="left" if head == "varied" else "right")
    first: Point | None = None
    for point in points:
        if first is None or first.series != point.series:
            first = point
            table.add_section()
        cells = [f"{point.readings_per_s:,.0f}", "", f"{point.cpu_us:.1f}", "", ""]
        if point.number != first.number and first.cpu_us and point.cpu_us:
            cells[1] = f"{point.readings_per_s / first.readings_per_s:.2f}"
            cells[3] = f"{point.cpu_us / first.cpu_us:.2f}"
            cells[4] = "" if point.series in (BRIDGES, SINKS) else f"{point.tenfold(first):.2f}"
        table.add_row(point.series, f"{point.number:,}", *cells)
    return table


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
