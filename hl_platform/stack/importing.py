"""`hl import`: history from CSV and Parquet, the way of every reading."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from hl_platform.adapters.files.opening import open_table
from hl_platform.adapters.files.rejected import RejectedRows
from hl_platform.adapters.files.table import TableFile
from hl_platform.adapters.log_output import log_for_a_person
from hl_platform.adapters.postgres.import_watch import Begin, ImportWatch
from hl_platform.core.errors import TransientError
from hl_platform.core.import_columns import ColumnPlan, plan_stream
from hl_platform.core.import_rows import RowReader
from hl_platform.core.import_times import TimeReader
from hl_platform.core.import_values import numeric_cells, uses_decimal_comma
from hl_platform.core.readings import ReadingDecoder
from hl_platform.core.settings import Settings, load_settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.pipeline.import_sender import ImportSender
from hl_platform.pipeline.importer import Importer, Source
from hl_platform.stack.connection import command_environment
from hl_platform.stack.import_display import (
    Stored,
    Summary,
    findings_text,
    plan_text,
    show_progress,
    summary_text,
)
from hl_platform.stack.signals import stop_on_signals
from hl_platform.streams import load_streams

# Rows that are looked at to find out how numbers are written.
SAMPLE_ROWS = 1_000
NUMERIC = ("float", "integer", "smallint")
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What was asked for, as `import_` describes it."""

    stream: str | None
    device: str | None
    renames: dict[str, str]
    timezone: ZoneInfo | None
    time_format: str | None
    decimal: str
    delimiter: str | None
    rejected: Path | None
    skip: int
    overwrite: bool
    dry_run: bool
    no_wait: bool


def _renames_of(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    renames: dict[str, str] = {}
    for value in values:
        column, equals, field = value.rpartition("=")
        if not equals or not column:
            raise click.BadParameter(f'{value!r} is not of the form "COLUMN=field".')
        renames[column.strip()] = field.strip()
    return renames


def _zone_of(_ctx: click.Context, _param: click.Parameter, value: str | None) -> ZoneInfo | None:
    try:
        return None if value is None else ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise click.BadParameter(f"{value!r} is no time zone. Write one such as Europe/Berlin.") from exc


def _delimiter_of(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    value = "\t" if value in ("\\t", "tab") else value
    if value is not None and (len(value) != 1 or value in '"\r\n'):
        raise click.BadParameter(f'{value!r} is not one character, such as ";", or "tab".')
    return value


@click.command("import")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--stream", help="Whose readings they are.  [default: the one that the columns fit]")
@click.option("--device", help="The device of all rows, where no column names it.")
@click.option(
    "--map",
    "renames",
    multiple=True,
    callback=_renames_of,
    metavar="COLUMN=FIELD",
    help='What a column is: --map "Energy (kWh)=total_energy_kwh". An empty field leaves it out. Repeatable.',
)
@click.option("--timezone", callback=_zone_of, help="Of times without an offset.  [default: HL_TIMEZONE]")
@click.option("--time-format", help='Of other times than ISO 8601 and Unix times, such as "%d.%m.%Y %H:%M".')
@click.option(
    "--decimal",
    type=click.Choice(["auto", ".", ","]),
    default="auto",
    show_default=True,
    help="How numbers are written.",
)
@click.option("--delimiter", callback=_delimiter_of, help="Between the cells of CSV.  [default: found out]")
@click.option("--dry-run", is_flag=True, help="Read and check everything, and send nothing.")
@click.option(
    "--skip", type=click.IntRange(0), default=0, help="Leave out so many rows: go on with an import."
)
@click.option("--overwrite", is_flag=True, help="Go before what a bridge received, where values differ.")
@click.option(
    "--rejected",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where rows go that are not valid.  [default: FILE.rejected.csv]",
)
@click.option("--no-wait", is_flag=True, help="Do not wait for the sink, neither underway nor at the end.")
def import_(files: tuple[Path, ...], **given: object) -> None:
    """Import history from CSV and Parquet: .csv, .csv.gz, .parquet.

    Importing again changes nothing. What a bridge received stays as it is, unless --overwrite is given.
    """
    options = Options(**given)  # type: ignore[arg-type] # click gives what the options above declare
    _check_files(files, options.rejected)
    settings = load_settings(command_environment())
    log_for_a_person(settings.log, "error")
    now = datetime.now(UTC)
    prepared = [_prepare(path, options, settings, now) for path in files]
    streams = {each.plan.stream.name: each.plan.stream for each in prepared}
    if len(streams) > 1:
        raise click.UsageError(f"The files are of {' and '.join(streams)}. Import one stream at a time.")
    for each in prepared:
        zone = str(options.timezone or settings.timezone)
        click.echo(plan_text(each.source.table.path, each.plan, zone, decimal_comma=each.decimal_comma))
    with stop_on_signals() as stop:
        work = _dry_run if options.dry_run else _import
        sys.exit(work(prepared, options, settings, now, stop))


class Prepared(NamedTuple):
    """A file that can be read.

    Args:
        source: its rows.
        plan: what its columns are.
        times: reads its timestamps.
        decimal_comma: whether its numbers are written 12,45.
    """

    source: Source
    plan: ColumnPlan
    times: TimeReader
    decimal_comma: bool


def _check_files(files: Sequence[Path], rejected: Path | None) -> None:
    """Refuses what would replace a file that is to be read, such as mended rows that `*.csv` names as well."""
    if rejected is not None and len(files) > 1:
        raise click.UsageError("--rejected goes with one file; several have one beside each.")
    read: set[object] = set()
    for path in files:
        if _place(path) in read:
            raise click.UsageError(f"{path} is given twice. Give it once.")
        read.add(_place(path))
    written: set[object] = set()
    for path in files:
        target = _rejected_of(path, rejected)
        remedy = "Import it by itself first, or rename it." if rejected is None else "Name another place."
        if _place(target) in read:
            raise click.UsageError(
                f"{target} is to be imported, and rows of {path} that are rejected would replace it. {remedy}"
            )
        if _place(target) in written:
            raise click.UsageError(f"Another file's rejected rows go to {target}. Import {path} by itself.")
        written.add(_place(target))


def _rejected_of(path: Path, rejected: Path | None) -> Path:
    return rejected or path.with_name(f"{path.name}.rejected.csv")


def _place(path: Path) -> object:
    """The same for all paths to one file, whether it is there or not."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino


def _prepare(path: Path, options: Options, settings: Settings, now: datetime) -> Prepared:
    table = open_table(path, options.delimiter)
    streams = load_streams(settings.streams_dir)
    plan = plan_stream(streams, options.stream, table.columns, options.renames, options.device)
    comma = options.decimal == "," or (options.decimal == "auto" and _has_decimal_comma(table, plan))
    times = TimeReader(options.timezone or ZoneInfo(settings.timezone), options.time_format)
    decoder = ReadingDecoder(plan.stream, settings.reading)
    reader = RowReader(plan, times, decoder, decimal_comma=comma, now=now, overwrite=options.overwrite)
    rejected = None
    if not options.dry_run:
        target = _rejected_of(path, options.rejected)
        # What an import has rejected before it was stopped belongs to it.
        rejected = RejectedRows(target, table.columns, table.delimiter, append=options.skip > 0)
    return Prepared(Source(table, reader, rejected), plan, times, comma)


def _has_decimal_comma(table: TableFile, plan: ColumnPlan) -> bool:
    types = {field.name: field.type for field in plan.stream.fields}
    numeric = [
        index
        for index, column in enumerate(plan.columns)
        if column.kind == "field" and types[column.target] in NUMERIC
    ]
    sample = (row.cells for row in islice(table.rows(), SAMPLE_ROWS) if row.fault is None)
    return uses_decimal_comma(numeric_cells(sample, numeric), table.delimiter)


def _dry_run(
    prepared: Sequence[Prepared], options: Options, _settings: Settings, _now: datetime, stop: threading.Event
) -> int:
    with show_progress() as progress:
        importer = Importer(None, options.skip, stop, progress)
        ended = importer.run([each.source for each in prepared])
    click.echo(findings_text(importer.tally, sum(each.times.n_ambiguous for each in prepared)))
    if ended is not None:
        click.echo(f"{ended.why} The rest of the files was not looked at.")
        return EXIT_INTERRUPTED
    return 1 if importer.tally.n_rejected else 0


def _import(
    prepared: Sequence[Prepared], options: Options, settings: Settings, now: datetime, stop: threading.Event
) -> int:
    stream = prepared[0].plan.stream
    began_s = monotonic()
    with show_progress() as progress, _watching(settings, stream, wanted=not options.no_wait) as watch:
        begin = watch.begin() if watch is not None else None
        sender = ImportSender(stream, settings.kafka, watch, stop, progress)
        try:
            importer = Importer(sender, options.skip, stop, progress)
            ended = importer.run([each.source for each in prepared])
        finally:
            sender.close()
        seconds = monotonic() - began_s
        received = now if options.overwrite else timedelta(seconds=settings.reading.max_ahead_s)
        stored = None
        if watch is not None and begin is not None and ended is None:
            stored = _look(watch, begin, importer, received)
    summary = Summary(
        importer.tally,
        ended,
        seconds,
        stored,
        sum(each.times.n_ambiguous for each in prepared),
        [
            each.source.rejected.path
            for each in prepared
            if each.source.rejected and each.source.rejected.used
        ],
        settings.kafka.retention_days,
    )
    click.echo(summary_text(summary))
    if ended is not None:
        return EXIT_INTERRUPTED if stop.is_set() else 1
    return 1 if importer.tally.n_rejected or (stored is not None and stored.n_dead_lettered) else 0


def _look(
    watch: ImportWatch, begin: Begin, importer: Importer, received: datetime | timedelta
) -> Stored | None:
    tally = importer.tally
    if tally.first_at is None or tally.last_at is None:
        return None
    try:
        written = watch.count_written(begin.at, (tally.first_at, tally.last_at), received)
        return Stored(*written, watch.begin().n_dead_lettered - begin.n_dead_lettered)
    except TransientError:
        # All is stored, and only the figures are missing.
        return None


@contextmanager
def _watching(settings: Settings, stream: Stream, *, wanted: bool) -> Iterator[ImportWatch | None]:
    if not wanted:
        yield None
        return
    watch = ImportWatch(require_address(settings.database.url, "database", "url"), stream)
    try:
        yield watch
    finally:
        watch.close()
