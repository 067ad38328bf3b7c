"""`hl dlq`: what was rejected, looked at, replayed or given up."""

import getpass
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console

from hl_platform.adapters.kafka.letters import LetterRecord
from hl_platform.adapters.kafka.record_fetcher import RecordFetcher
from hl_platform.adapters.log_output import log_for_a_person
from hl_platform.adapters.postgres.dead_letters import DeadLetterIndex
from hl_platform.core.dead_letter_index import OPEN_STATES, STATES, Entry, Selection
from hl_platform.core.settings import Settings, load_settings, require_address
from hl_platform.pipeline.reprocess import Outcome, reprocessing
from hl_platform.pipeline.verdicts import VerdictCounts, count_verdicts
from hl_platform.stack.connection import command_environment
from hl_platform.stack.dlq_display import (
    entries_table,
    entry_text,
    groups_text,
    outcome_text,
    show_progress,
    verdicts_table,
)
from hl_platform.stack.moments import MomentType
from hl_platform.stack.tables import answer_console
from hl_platform.streams import load_streams

Command = Callable[..., Any]

FILTERS = (
    click.option("--stream", help="Only this stream."),
    click.option("--fingerprint", help="Only failures that are alike; `hl dlq list` shows the fingerprints."),
    click.option("--device", help="Only this device."),
    click.option("--since", type=MomentType(), help="Only what failed last at this time or later."),
    click.option("--until", type=MomentType(), help="Only what failed last before this time."),
    click.option(
        "--state",
        "states",
        type=click.Choice([*STATES, "all"]),
        multiple=True,
        help="Only these states; may be given several times.  [default: new and failed_again]",
    ),
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
IDS = click.argument("ids", type=click.IntRange(1), nargs=-1, metavar="[ID]...")
EVERYTHING = click.option("--all", "everything", is_flag=True, help="All of them, without another filter.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


def filtered(command: Command) -> Command:
    """Adds the options that select entries."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """Look at what was rejected, replay it or give it up."""


@dlq.command("list")
@filtered
@click.option("--entries", is_flag=True, help="Single dead letters, not groups of those that are alike.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Lines at most.")
@AS_JSON
def list_(*, entries: bool, limit: int, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401 - the filters
    """Show what was rejected and still waits, by kind of failure."""
    settings = _settings()
    selection = _selection((), **chosen)
    with _index(settings) as index:
        n, _ = index.count(selection)
        single = index.entries(selection, limit) if entries else []
        groups = [] if entries else index.groups(selection, limit)
    if as_json:
        _print_json({"n": n, "entries": single} if entries else {"n": n, "groups": groups})
        return
    if n == 0:
        click.echo("There are no such dead letters.")
    elif entries:
        answer_console().print(entries_table(single))
    else:
        click.echo(groups_text(groups))
    n_shown = len(single) if entries else sum(group.n for group in groups)
    if n_shown < n:
        click.echo(f"{n - n_shown:,} more; --limit shows more of them.")


@dlq.command()
@click.argument("entry_id", type=click.IntRange(1), metavar="ID")
@click.option("--raw", is_flag=True, help="The original bytes, exactly, and nothing else.")
@AS_JSON
def show(*, entry_id: int, raw: bool, as_json: bool) -> None:
    """Show one dead letter with its bytes."""
    settings = _settings()
    with _index(settings) as index:
        entry = _find(index, entry_id)
    record = _fetch(settings, entry)
    if raw:
        if record is None:
            raise click.ClickException(f"Kafka no longer has the bytes of dead letter {entry_id}.")
        sys.stdout.buffer.write(record.value)
        sys.stdout.buffer.flush()
    elif as_json:
        text = None if record is None else record.value.decode(errors="replace")
        hexadecimal = None if record is None else record.value.hex()
        _print_json({**msgspec.to_builtins(entry), "value": text, "value_hex": hexadecimal})
    else:
        click.echo(entry_text(entry, record))


@dlq.command()
@IDS
@filtered
@EVERYTHING
@click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest first.")
@click.option("--dry-run", is_flag=True, help="Only show what would succeed.")
@YES
@AS_JSON
def replay(
    *,
    ids: tuple[int, ...],
    everything: bool,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **chosen: Any,  # noqa: ANN401 - the filters
) -> None:
    """Send dead letters the way of every reading again, once their cause is mended.

    Shows first what would succeed, and asks. Replaying twice changes nothing.
    """
    settings = _settings()
    selection = _selection(ids, **chosen)
    _check_chosen(selection, everything=everything)
    with _index(settings) as index:
        # Not what comes in after the question.
        selection = msgspec.structs.replace(selection, until_id=index.count(selection)[1])
    streams = load_streams(settings.streams_dir)
    with show_progress() as progress, reprocessing(settings, streams, progress) as work:
        if dry_run or not yes:
            verdicts = count_verdicts(work.plan(selection, limit))
            _show_verdicts(verdicts, as_json=as_json and dry_run)
            if dry_run or not _wanted(verdicts):
                return
        _show_outcome(work.apply(selection, getpass.getuser(), limit), as_json=as_json)


@dlq.command()
@IDS
@filtered
@EVERYTHING
@click.option("--reason", required=True, help="Why nobody wants them back; it is kept.")
@YES
@AS_JSON
def discard(
    *,
    ids: tuple[int, ...],
    everything: bool,
    reason: str,
    yes: bool,
    as_json: bool,
    **chosen: Any,  # noqa: ANN401 - the filters
) -> None:
    """Give dead letters up. Their bytes stay in Kafka; replaying one by its id undoes it."""
    if not reason.strip():
        raise click.UsageError("--reason is empty. Write why nobody wants them back.")
    settings = _settings()
    selection = _selection(ids, **chosen)
    _check_chosen(selection, everything=everything)
    with _index(settings) as index:
        n, newest = index.count(selection)
        if n and not yes:
            click.confirm(f"Discard {n:,} dead letters?", abort=True, err=True)
        bounded = msgspec.structs.replace(selection, until_id=newest)
        n_discarded = index.discard(bounded, getpass.getuser(), reason) if n else 0
    if as_json:
        _print_json({"discarded": n_discarded})
    else:
        click.echo(f"{n_discarded:,} discarded." if n else "There are no such dead letters.")


def _settings() -> Settings:
    settings = load_settings(command_environment())
    log_for_a_person(settings.log)
    return settings


def _selection(
    ids: tuple[int, ...],
    *,
    stream: str | None,
    fingerprint: str | None,
    device: str | None,
    since: datetime | None,
    until: datetime | None,
    states: tuple[str, ...],
) -> Selection:
    # Who names an entry means it, whatever its state is.
    wanted = None if "all" in states or (ids and not states) else states or OPEN_STATES
    return Selection(
        stream=stream,
        fingerprint=fingerprint,
        device_id=device,
        since=since,
        until=until,
        ids=ids or None,
        states=wanted,  # type: ignore[arg-type] # click has checked them
    )


def _check_chosen(selection: Selection, *, everything: bool) -> None:
    filters = (selection.stream, selection.fingerprint, selection.device_id, selection.since, selection.until)
    chosen = selection.ids is not None or any(value is not None for value in filters)
    if not chosen and not everything:
        raise click.UsageError("Say which: ids, a filter such as --fingerprint, or --all.")
    if chosen and everything:
        raise click.UsageError("--all does not go with ids or filters.")


@contextmanager
def _index(settings: Settings) -> Iterator[DeadLetterIndex]:
    index = DeadLetterIndex(require_address(settings.database.url, "database", "url"), "hl-dlq")
    try:
        yield index
    finally:
        index.close()


def _find(index: DeadLetterIndex, entry_id: int) -> Entry:
    found = index.entries(Selection(ids=(entry_id,), states=None), 1)
    if not found:
        raise click.ClickException(
            f"There is no dead letter {entry_id}. `hl dlq list --entries --state all` shows those there are."
        )
    return found[0]


def _fetch(settings: Settings, entry: Entry) -> LetterRecord | None:
    fetcher = RecordFetcher(settings.kafka, "hl-dlq")
    try:
        place = (entry.dead_letter_topic, entry.dead_letter_partition)
        record = fetcher.fetch(place, [entry.dead_letter_offset]).get(entry.dead_letter_offset)
    finally:
        fetcher.close()
    return record if record is not None and record.kafka_time == entry.dead_lettered_at else None


def _show_verdicts(verdicts: VerdictCounts, *, as_json: bool) -> None:
    if as_json:
        _print_json({"dry_run": True, **verdicts.document()})
    elif verdicts.n == 0:
        click.echo("There are no such dead letters.")
    else:
        # Not on stdout, which may be for a program.
        Console(stderr=True).print(verdicts_table(verdicts))


def _wanted(verdicts: VerdictCounts) -> bool:
    if verdicts.n_possible == 0:
        return False
    return click.confirm(f"Replay {verdicts.n_possible:,} dead letters?", err=True)


def _show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        _print_json(outcome.document())
    else:
        click.echo(outcome_text(outcome))
    if not outcome.complete:
        sys.exit(1)


def _print_json(document: object) -> None:
    click.echo(json.dumps(msgspec.to_builtins(document), indent=2, ensure_ascii=False))
