"""`hl archive`: the files of the archive, looked at, verified, and brought back to be queried."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from dbt_like_sql.engine.archive import ALL_FILES, registered, table_columns
from dbt_like_sql.engine.project import load_project
from dbt_like_sql.engine.restore import forget_restored
from dbt_like_sql.engine.restore import restore as restore_range
from dbt_like_sql.engine.retain import retain
from hl_platform import __version__
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.directories import archive_directory
from hl_platform.adapters.log_output import log_for_a_person
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.archive import ArchivedFile
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, load_settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.stack.connection import command_environment
from hl_platform.stack.moments import MomentType
from hl_platform.stack.tables import answer_console, plain_table
from hl_platform.streams import load_streams

STREAM = click.option("--stream", help="Only this stream.")


class Opened(NamedTuple):
    """What a command works with."""

    settings: Settings
    streams: Mapping[str, Stream]
    db: SqlDatabase
    files: ArchiveDirectory
    directory: Path


@click.group()
def archive() -> None:
    """Look at the archive of readings, verify it, bring a range back."""


@archive.command("list")
@STREAM
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(*, stream: str | None, as_json: bool) -> None:
    """Show the archive's files by stream and month."""
    with _opened() as work:
        found = {name: _files_of(work, chosen) for name, chosen in _chosen(work, stream).items()}
        if as_json:
            documents = [
                {"stream": name, **msgspec.to_builtins(file._asdict())}
                for name in found
                for file in found[name]
            ]
            click.echo(json.dumps(documents, indent=2))
            return
        if not any(found.values()):
            click.echo("The archive is empty.")
            return
        answer_console().print(_table(found))
        click.echo(f"Files are in {work.directory}.")


@archive.command()
@STREAM
def verify(*, stream: str | None) -> None:
    """Read every file and compare every row with what was archived."""
    faults: list[str] = []
    n_files = 0
    with _opened() as work:
        for name, chosen in _chosen(work, stream).items():
            files = _files_of(work, chosen)
            columns = table_columns(work.db, f"public.{chosen.table}")
            with _progress(f"verifying {name}") as report:
                for n, file in enumerate(files, 1):
                    try:
                        work.files.verify(file, columns)
                    except ConfigError as exc:
                        faults.append(str(exc))
                    report(n, len(files))
            n_files += len(files)
            for path in work.files.unknown(chosen.table, [file.path for file in files]):
                click.echo(f"{path} was left by an interruption and is not used; you may delete it.")
    for fault in faults:
        click.echo(fault, err=True)
    click.echo(f"{n_files:,} files, {len(faults):,} of them missing or damaged.")
    if faults:
        sys.exit(1)


@archive.command()
@click.option("--stream", required=True, help="Which stream.")
@click.option("--start", type=MomentType(), required=True, help="From this time on.")
@click.option("--end", type=MomentType(), required=True, help="Before this time.")
@click.option("--device", "devices", multiple=True, help="Only this device; may be given several times.")
def restore(*, stream: str, start: datetime, end: datetime, devices: tuple[str, ...]) -> None:
    """Bring archived readings back into a table of schema `restored`, to be queried.

    They change no aggregate, and stay until `hl archive forget`.
    """
    with _opened() as work:
        table = _chosen(work, stream)[stream].table
        with _progress(f"restoring {stream}") as report:
            n_rows = restore_range(work.db, work.files, table, start, end, list(devices) or None, report)
    if n_rows:
        click.echo(f"{n_rows:,} readings are in restored.{table}. `hl archive forget` drops them there.")
    else:
        click.echo("The archive holds none of them. What is younger is in the table itself.")


@archive.command()
def forget() -> None:
    """Drop what was restored; the archive keeps it."""
    with _opened() as work:
        names = forget_restored(work.db)
    click.echo(
        f"Dropped {', '.join(f'restored.{name}' for name in names)}." if names else "Nothing was restored."
    )


@archive.command()
def run() -> None:
    """Archive and drop what is old enough now, and merge what came late, as Dagster does every night."""
    with _opened() as work:
        if not work.settings.archive.enabled:
            raise ConfigError("HL_ARCHIVE__ENABLED=False: nothing is archived, and nothing dropped.")
        project = load_project(work.streams, work.settings.models_dir)
        days = work.settings.sink.raw_retention_days
        for done in retain(work.db, project, work.files, __version__, raw_days=days):
            click.echo(
                f"{done.stream}: {done.n_days:,} days with {done.n_rows:,} readings archived and dropped, "
                f"{done.n_late:,} late readings merged."
            )


@contextmanager
def _opened() -> Iterator[Opened]:
    settings = load_settings(command_environment())
    log_for_a_person(settings.log)
    directory = archive_directory(settings)
    url = require_address(settings.database.url, "database", "url")
    with closing(SqlDatabase(url, "hl-archive", BULK)) as db:
        yield Opened(settings, load_streams(settings.streams_dir), db, ArchiveDirectory(directory), directory)


def _chosen(work: Opened, stream: str | None) -> dict[str, Stream]:
    if stream is None:
        return dict(work.streams)
    if stream not in work.streams:
        raise ConfigError(f"--stream {stream!r} is not one of {', '.join(work.streams)}.")
    return {stream: work.streams[stream]}


def _files_of(work: Opened, stream: Stream) -> list[ArchivedFile]:
    return registered(work.db, ALL_FILES, table_name=stream.table)


def _table(found: Mapping[str, list[ArchivedFile]]) -> Table:
    table = plain_table("Archive", ("stream", "month"), ("files", "readings", "devices", "first", "last"))
    for name, files in found.items():
        for month in sorted({f"{file.day:%Y-%m}" for file in files}):
            part = [file for file in files if f"{file.day:%Y-%m}" == month]
            table.add_row(
                name,
                month,
                f"{len(part):,}",
                f"{sum(file.n_rows for file in part):,}",
                str(len({device for file in part for device in file.devices})),
                f"{min(file.first_at for file in part).astimezone(UTC):%Y-%m-%d %H:%M}Z",
                f"{max(file.last_at for file in part).astimezone(UTC):%Y-%m-%d %H:%M}Z",
            )
    return table


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    bar = Progress(
        TextColumn(title), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), transient=True
    )
    with bar:
        task: Any = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
