"""What every comparison prints and writes: median and range of its repeats, ratios of one run, and where it ran."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from hl_platform import __version__


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


def write_json(path: Path, figures: Mapping[str, object]) -> None:
    """Writes figures for programs to read."""
    path.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
