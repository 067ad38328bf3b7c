"""The fault matrix: `make chaos`, with ARGS="--only sink.*/kill --seed 3" a part of it, ARGS=kills random kills."""

import argparse
import fnmatch
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console

from tests.faults.chaos import kills, report
from tests.faults.chaos.matrix import Cell, plan_cells
from tests.faults.chaos.runner import run_cells

RESULTS = Path(__file__).with_name("results")


def main(argv: Sequence[str]) -> int:
    """Runs what is asked for; 1 when anything is not exactly as it should be."""
    arguments = _parse(argv)
    console = Console(width=150)
    # Ends like Ctrl-C: servers stopped, directories gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    RESULTS.mkdir(exist_ok=True)
    # What goes on inside the services is in their logs.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if arguments.what == "kills":
        return kills.main(arguments, console, RESULTS)
    cells = [cell for cell in plan_cells() if _is_wanted(cell, arguments.only)]
    if not cells:
        console.print(f"No cell's name has {' or '.join(arguments.only)} in it; --list shows them.")
        return 2
    if arguments.list:
        console.print("\n".join(cell.name for cell in cells))
        return 0
    outcomes = []
    began = time.monotonic()
    try:
        for outcome in run_cells(cells, arguments.seed, arguments.jobs, RESULTS):
            outcomes.append(outcome)
            left_s = (time.monotonic() - began) / len(outcomes) * (len(cells) - len(outcomes))
            progress = f"{len(outcomes):3}/{len(cells)}, {left_s / 60:.0f} min to go"
            console.print(report.line(outcome, progress), highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("stopped; what had ended by then:")
    console.print(report.table(outcomes, time.monotonic() - began))
    report.write(RESULTS / "matrix.json", outcomes, arguments.seed)
    n_passed = sum(outcome.passed for outcome in outcomes)
    console.print(f"{n_passed} of {len(cells)} cells passed, seed {arguments.seed}")
    return 0 if n_passed == len(cells) else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("matrix", "kills"), default="matrix")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same load and same places")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="cells whose names have it, * for anything; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="show the cells' names and end")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, each on servers of its own")
    parser.add_argument("--n", type=int, default=100, help="kills: how many")
    parser.add_argument("--rate", type=int, default=2_000, help="kills: readings per second")
    return parser.parse_args(argv)


def _is_wanted(cell: Cell, only: Sequence[str]) -> bool:
    return not only or any(fnmatch.fnmatch(cell.name, f"*{pattern}*") for pattern in only)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
