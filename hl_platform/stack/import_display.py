"""What `hl import` shows a person."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from hl_platform.core.import_columns import Column, ColumnPlan
from hl_platform.core.import_rows import ImportTally
from hl_platform.pipeline.import_sender import Progress as Report
from hl_platform.pipeline.importer import Ended

DEVICES_SHOWN = 10
REASON_WORDS = {
    "invalid": "a value is missing or not allowed",
    "not_csv": "not a row of CSV",
    "not_a_time": "the time cannot be read",
    "no_such_local_time": "a local time that never was",
    "no_device_id": "no valid device",
    "clock_ahead": "the time is in the future",
    "clock_unset": "the time is before HL_READING__FLOOR",
    "too_large": "too large",
}


class Stored(NamedTuple):
    """What the sink made of the rows: new, changing what was stored, and rejected by the database."""

    n_new: int
    n_corrected: int
    n_dead_lettered: int


class Summary(NamedTuple):
    """What an import did.

    Args:
        tally: of the rows.
        ended: why it ended before; None if it did not.
        seconds: that it took.
        stored: what the sink made of it; None if that is not known.
        n_ambiguous: local times that came twice.
        rejected: the files of rejected rows.
        retention_days: how long Kafka keeps what was sent.
    """

    tally: ImportTally
    ended: Ended | None
    seconds: float
    stored: Stored | None
    n_ambiguous: int
    rejected: Sequence[Path]
    retention_days: int


def plan_text(path: Path, plan: ColumnPlan, zone: str, *, decimal_comma: bool) -> str:
    """What becomes of a file's columns."""
    units = {field.name: field.unit for field in plan.stream.fields}
    width = max(len(column.name) for column in plan.columns)
    lines = [f"{_line(path.name)} -> stream {plan.stream.name}"]
    lines += [
        f"  {_line(column.name):<{width}}  {_meaning(column, units.get(column.target, ''), zone)}"
        for column in plan.columns
    ]
    if plan.device is not None:
        lines.append(f"  Every row is of device {_line(plan.device)}.")
    if decimal_comma:
        lines.append("  Numbers have a decimal comma.")
    return "\n".join(lines)


def findings_text(tally: ImportTally, n_ambiguous: int) -> str:
    """What a dry run found."""
    lines = [f"{tally.n_good:,} good rows, {tally.n_rejected:,} bad ones. Nothing was sent."]
    if tally.first_at is not None and tally.last_at is not None:
        lines.append(f"from {_moment(tally.first_at)} to {_moment(tally.last_at)}")
    if tally.devices:
        lines.append(_devices_text(tally))
    return "\n".join([*lines, *_ambiguous_lines(n_ambiguous), *_reason_lines(tally)])


def summary_text(summary: Summary) -> str:
    """What an import did."""
    tally, stored = summary.tally, summary.stored
    n_sent = tally.n_good
    rate = f"{n_sent / max(summary.seconds, 0.001):,.0f}/s"
    lines = [f"{n_sent:,} rows sent in {summary.seconds:.1f} s ({rate})"]
    if stored is not None:
        n_known = max(0, n_sent - stored.n_new - stored.n_corrected - stored.n_dead_lettered)
        lines[0] += f": {stored.n_new:,} new, {stored.n_corrected:,} corrections, {n_known:,} already stored"
    lines[0] += "."
    lines += _ambiguous_lines(summary.n_ambiguous)
    if tally.n_rejected:
        where = ", ".join(str(path) for path in summary.rejected)
        lines += [f"{tally.n_rejected:,} rows rejected, to {where}:", *_reason_lines(tally)]
        lines.append("Mend them there and import that file.")
    if stored is not None and stored.n_dead_lettered:
        lines.append(
            f"{stored.n_dead_lettered:,} records of the stream were rejected meanwhile; `hl dlq list` shows why."
        )
    return "\n".join([*lines, *_ended_lines(summary)])


def _ended_lines(summary: Summary) -> list[str]:
    ended = summary.ended
    if ended is None:
        return []
    if ended.at_the_end:
        kept = f"Kafka has all rows and keeps them for {summary.retention_days} days"
        return [f"{ended.why} {kept}: the sink stores them when it goes on."]
    how = f"the same with --skip {ended.skip}" if ended.skip else "the same once more"
    return [f"{ended.why} To go on, run {how}; what is stored already does not change."]


class Bars:
    """Progress as two bars: what is read and sent, and what is stored."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._read = bars.add_task("reading", total=1.0)
        self._stored: TaskID | None = None

    def read(self, n_rows: int, share: float) -> None:
        """So many rows are read, and that share of the files."""
        self._bars.update(self._read, completed=share, description=f"read    {n_rows:>11,} rows")

    def stored(self, n_stored: int, n_sent: int) -> None:
        """The sink has passed so many of the records that were sent."""
        if self._stored is None:
            self._stored = self._bars.add_task("", total=n_sent)
        text = f"stored  {n_stored:>11,} of {n_sent:,}"
        self._bars.update(self._stored, completed=n_stored, total=n_sent, description=text)


class _Silent:
    def read(self, n_rows: int, share: float) -> None:
        pass

    def stored(self, n_stored: int, n_sent: int) -> None:
        pass


@contextmanager
def show_progress() -> Iterator[Report]:
    """Shows on a terminal how far the work has come; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Silent()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(bars)


def _meaning(column: Column, unit: str, zone: str) -> str:
    words = {
        "timestamp": f"timestamp (without an offset: {zone})",
        "device": "device_id",
        "field": f"{column.target} ({unit})" if unit else column.target,
        "extra": f"extra: {_line(column.target)}",
        "extra_object": "extra: a JSON object",
        "ignored": "left out",
    }
    return words[column.kind]


def _devices_text(tally: ImportTally) -> str:
    shown = [f"{_line(name)} ({n:,})" for name, n in tally.devices.most_common(DEVICES_SHOWN)]
    n_more = len(tally.devices) - len(shown)
    more = f" and {n_more:,} more" if n_more else ""
    return f"{len(tally.devices):,} devices: {', '.join(shown)}{more}"


def _ambiguous_lines(n_ambiguous: int) -> list[str]:
    if n_ambiguous == 0:
        return []
    what = f"{n_ambiguous:,} local times are of an hour that came twice, when clocks were set back"
    return [f"{what}; the order of a device's rows decided which."]


def _reason_lines(tally: ImportTally) -> list[str]:
    lines = []
    for reason, n in tally.reasons.most_common():
        lines.append(f"  {reason}: {n:,}, {REASON_WORDS.get(reason, 'not valid')}")
        lines += [
            f"    {_line(example.file)}, line {example.line}: {_line(example.detail[:200])}"
            for example in tally.examples[reason]
        ]
    return lines


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _line(text: str) -> str:
    # What a file holds must not move the cursor of a terminal, nor be no text.
    return "".join(character if character.isprintable() else "�" for character in text)
