"""What `hl dlq` shows a person."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from hl_platform.adapters.kafka.letters import LetterRecord
from hl_platform.core.dead_letter_index import Entry, EntryGroup
from hl_platform.pipeline.judge import IMPOSSIBLE
from hl_platform.pipeline.reprocess import Outcome
from hl_platform.pipeline.reprocess import Progress as Report
from hl_platform.pipeline.verdicts import VerdictCounts
from hl_platform.stack.tables import plain_table

# Of a value that is no text; `--raw` writes all of it.
MAX_HEX_BYTES = 4_096
HEX_LINE_BYTES = 16
KIND_STYLES = {"accepted": "green", "rejected": "red", "impossible": "yellow"}
KIND_WORDS = {"accepted": "would succeed", "rejected": "would fail again", "impossible": "cannot be replayed"}
STEP_WORDS = {"judged": "judging", "replayed": "replaying", "awaited": "waiting for the sink and the index"}


def groups_text(groups: Sequence[EntryGroup]) -> str:
    """Kinds of failure, two lines each; nothing is cut, so that a fingerprint can be copied."""
    return "\n".join(_group_lines(group) for group in groups)


def entries_table(entries: Sequence[Entry]) -> Table:
    """Single dead letters."""
    heads = ("id", "state", "stream", "device", "last", "tries", "reason")
    table = plain_table("Dead letters", heads)
    table.add_column("value", overflow="ellipsis", no_wrap=True, ratio=1)
    for entry in entries:
        table.add_row(
            str(entry.id),
            entry.state,
            entry.stream,
            Text(entry.device_id or ""),
            _moment(entry.last_failed_at),
            str(entry.attempts),
            entry.reason,
            Text(entry.preview.replace("\n", " ")),
        )
    return table


def entry_text(entry: Entry, record: LetterRecord | None) -> str:
    """All fields of an entry that it has, and its bytes."""
    fields = {name: value for name, value in msgspec.to_builtins(entry).items() if value is not None}
    fields.pop("preview")
    width = max(len(name) for name in fields)
    lines = [f"{name:<{width}}  {_line(value)}" for name, value in fields.items()]
    if record is None:
        return "\n".join([*lines, "", "Kafka no longer has its bytes. They began:", entry.preview])
    return "\n".join([*lines, "", *value_lines(record.value)])


def value_lines(value: bytes) -> list[str]:
    """A value as text where it is text, else in hexadecimal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text and all(character.isprintable() or character in "\n\t" for character in text):
        return [text]
    if not value:
        return ["(empty)"]
    starts = range(0, min(len(value), MAX_HEX_BYTES), HEX_LINE_BYTES)
    lines = [_hex_line(start, value[start : start + HEX_LINE_BYTES]) for start in starts]
    if len(value) > MAX_HEX_BYTES:
        lines.append(f"… {len(value) - MAX_HEX_BYTES:,} bytes more; --raw writes them all.")
    return lines


def verdicts_table(verdicts: VerdictCounts) -> Table:
    """What would become of a selection."""
    table = plain_table("What a replay would do now", ("outcome", "count", "stream", "reason"))
    table.add_column("example", overflow="fold")
    for group in verdicts.groups:
        example = (
            f"{group.example_id}: {group.example_detail[:200]}" if group.reason else str(group.example_id)
        )
        table.add_row(
            Text(KIND_WORDS[group.kind], style=KIND_STYLES[group.kind]),
            f"{group.n:,}",
            group.stream,
            group.reason,
            Text(example),
        )
    return table


def outcome_text(outcome: Outcome) -> str:
    """What a replay did."""
    parts = [f"{outcome.n_stored:,} stored", f"{outcome.n_failed_again:,} failed again"]
    parts += [f"{n:,} not replayed: {IMPOSSIBLE[reason]}" for reason, n in outcome.impossible.items()]
    text = "; ".join(parts) + "."
    if outcome.n_failed_again:
        text += " `hl dlq list --state failed_again` shows why."
    if not outcome.complete:
        text += (
            " The sink or the index has not passed all of it yet: these figures may change; see `hl status`."
        )
    return text


@contextmanager
def show_progress() -> Iterator[Report]:
    """Shows on a terminal how far the work has come; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("")

    def report(step: str, done: int, total: int) -> None:
        # Gone while a question is asked, which is when nothing is reported.
        bar.update(task, description=STEP_WORDS[step], completed=done, total=total)
        if done < total:
            bar.start()
        else:
            bar.stop()

    try:
        yield report
    finally:
        bar.stop()


def _group_lines(group: EntryGroup) -> str:
    span = f"{_moment(group.first_failed_at)} to {_moment(group.last_failed_at)}"
    what = f"{group.fingerprint}  {group.stream}  {group.reason} ({group.stage})"
    return f"{group.n:>7,}  {what}  {span}\n{'':7}  {group.example_id}: {_line(group.example_detail[:200])}"


def _hex_line(start: int, part: bytes) -> str:
    seen = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)  # noqa: PLR2004 - printable ASCII
    return f"{start:08x}  {part.hex(' '):<{3 * HEX_LINE_BYTES}} {seen}"


def _line(value: object) -> str:
    # What a device sent must not move the cursor of a terminal.
    return "".join(character if character.isprintable() else "�" for character in str(value))


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
