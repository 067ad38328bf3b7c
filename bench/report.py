"""What every comparison prints and writes: median and range of its repeats, ratios of one run, and where it ran."""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from hl_platform import __version__

AT_START = psutil.cpu_times()


class Spread(NamedTuple):
    """Repeats of one figure."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        if self.least == self.greatest:
            return f"{self.median:,.0f}"
        return f"{self.median:,.0f} ({self.least:,.0f} to {self.greatest:,.0f})"


def spread(values: Iterable[float]) -> Spread:
    """Median, minimum and maximum."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def compare(stage: str, unit: str, found: Mapping[str, Iterable[float]]) -> list[dict[str, Any]]:
    """The figure of hl beside that of each of the others, as ratios of the medians of one run.

    Args:
        stage: of the pipeline.
        unit: of the values, of which more is better.
        found: the repeats of each, by name; hl's is `hl`.
    """
    spreads = {name: spread(values) for name, values in found.items()}
    if "hl" not in spreads:
        return []
    ours = spreads["hl"]
    return [
        {
            "stage": stage,
            "unit": unit,
            "hl": ours._asdict(),
            "beside": name,
            "theirs": theirs._asdict(),
            "ratio": ours.median / theirs.median if theirs.median else None,
        }
        for name, theirs in spreads.items()
        if name != "hl"
    ]


def print_comparisons(out: Console, comparisons: Iterable[Mapping[str, Any]]) -> None:
    """One table of all stages."""
    table = Table(title="hl beside others, median (least to most) of each; ratios of one run")
    for head in ("stage", "hl", "beside", "theirs", "hl / theirs"):
        table.add_column(head, justify="right" if head.startswith("hl") or head == "theirs" else "left")
    for one in comparisons:
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        ours, theirs = Spread(**one["hl"]), Spread(**one["theirs"])
        table.add_row(one["stage"], f"{ours} {one['unit']}", one["beside"], str(theirs), ratio)
    out.print(table)


def machine() -> dict[str, Any]:
    """Where and with what a measurement was made."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hl": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": os.getloadavg()[0],
    }


def names_of(known: Iterable[str], separator: str = ",") -> Callable[[str], list[str]]:
    """For `argparse`: some of the known names; any other would be measured as nothing, and nothing is never wrong."""
    all_names = list(known)

    def names(text: str) -> list[str]:
        wanted = text.split(separator)
        if unknown := [name for name in wanted if name not in all_names]:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r} in: {f'{separator} '.join(all_names)}")
        return wanted

    return names


def stolen_share() -> float:
    """The share of this machine's time that its hypervisor has given to others since this process began to measure."""
    now = psutil.cpu_times()
    total = sum(now) - sum(AT_START)
    return (getattr(now, "steal", 0.0) - getattr(AT_START, "steal", 0.0)) / total if total else 0.0


def write_json(path: Path, figures: Mapping[str, object]) -> None:
    """Writes figures for programs to read."""
    figures = {**figures, "stolen_share": round(stolen_share(), 3)}
    path.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
