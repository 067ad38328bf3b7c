"""What people and programs read of a matrix: a line per cell, a table, a file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.table import Table

from tests.faults.chaos.cell import Outcome
from tests.faults.chaos.matrix import STEPS, plan_cells


def line(outcome: Outcome, progress: str) -> str:
    """One cell as it ends: verdict, seconds, what was injected where, and what is wrong."""
    verdict = "[green]pass[/]" if outcome.passed else "[red]FAIL[/]"
    restarted = f" (ended and restarted: {', '.join(outcome.restarted)})" if outcome.restarted else ""
    text = f"{progress} {verdict} {outcome.seconds:5.1f} s  {outcome.cell}: "
    text += (outcome.injected or "nothing injected") + restarted
    return "\n      ".join([text, *outcome.faults, *([f"log: {outcome.log}"] if outcome.log else [])])


def table(outcomes: Sequence[Outcome], seconds: float) -> Table:
    """Rows: who and what. Columns: the steps of both protocols. A cell shows its seconds, or FAIL."""
    by_name = {outcome.cell: outcome for outcome in outcomes}
    steps = [(stage, step) for stage, own in STEPS.items() for step in own]
    shown = Table(
        "victim",
        "fault",
        *(f"{stage}\n{step}" for stage, step in steps),
        title=f"seconds per cell, {seconds / 60:.1f} minutes in all",
    )
    rows = list(dict.fromkeys((cell.victim, cell.fault) for cell in plan_cells()))
    for victim, fault in rows:
        cells = [by_name.get(f"{stage}.{step}/{victim}/{fault}") for stage, step in steps]
        if any(cells):
            shown.add_row(victim, fault, *(_shown(cell) for cell in cells))
    return shown


def _shown(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f"{outcome.seconds:.0f}" if outcome.passed else "[red]FAIL[/]"


def write(path: Path, outcomes: Sequence[Outcome], seed: int) -> None:
    """Everything, for programs."""
    document = {
        "ended_at": datetime.now(UTC),
        "seed": seed,
        "cells": [{**msgspec.to_builtins(outcome), "passed": outcome.passed} for outcome in outcomes],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))
