"""`hl sql`: the SQL models, compiled, brought up to date, tested and explained."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from rich.console import Console

from dbt_like_sql.engine.checks import load_checks, run_checks
from dbt_like_sql.engine.deploy import deploy, mark_all
from dbt_like_sql.engine.docs import write_docs
from dbt_like_sql.engine.example_runner import run_examples
from dbt_like_sql.engine.examples import load_examples
from dbt_like_sql.engine.lineage import column_lineage, lineage_tree
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import SCOPE, statements_of
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from dbt_like_sql.engine.render import Renderer, near
from dbt_like_sql.engine.syntax import parsed, pretty
from hl_platform import __version__
from hl_platform.adapters.log_output import log_for_a_person
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, load_settings
from hl_platform.stack.connection import command_environment
from hl_platform.stack.layout import plan_directories
from hl_platform.stack.lock import holder_of
from hl_platform.stack.sql_display import (
    check_text,
    example_text,
    lineage_text,
    progress_bar,
    retired_text,
    summary_text,
)
from hl_platform.stack.tables import answer_console
from hl_platform.streams import load_streams

Report = Callable[[str, int, int], None]

RESTART = (
    "hl is running with the models that it had loaded before, and materializes nothing until it has loaded these: "
    "run `hl down`, then `hl up`. Every query is right meanwhile."
)
# Marks that one transaction takes: a few seconds' work, so that a sink does not wait for long.
MARKS_AT_ONCE = 2_000
N_DIRTY = """
-- n_dirty: marks of a model
select count(*) from hl.dirty where model = %(model)s
"""
MODEL = click.option("--model", "name", metavar="MODEL", help="Only this model.")


@click.group()
def sql() -> None:
    """Compile, refresh, test and explain the SQL models."""


@sql.command("compile")
@click.argument("name", metavar="MODEL", required=False)
@click.option(
    "--raw", is_flag=True, help="As the macros write it, which is what is deployed, not laid out anew."
)
@click.option("--objects", is_flag=True, help="Also what makes its functions and views.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this directory instead.")
def compile_(name: str | None, *, raw: bool, objects: bool, output: Path | None) -> None:
    """Show the SQL that a model becomes; with --output and no MODEL, of all models."""
    if name is None and output is None:
        raise click.UsageError("Say which model, or give --output for all of them.")
    project = _project(_settings())
    models = list(project.models.values()) if name is None else [_find(project, name)]
    for model in models:
        text = _compiled(project, model, raw=raw, objects=objects)
        if output is None:
            click.echo(text, nl=False)
        else:
            _write(output, f"{model.name}.sql", text)
    if output is not None:
        click.echo(f"{len(models)} models written to {output}.")


@sql.command()
@MODEL
@click.option("--full", is_flag=True, help="Mark everything dirty first, so that all of it is computed anew.")
def run(name: str | None, *, full: bool) -> None:
    """Deploy what has changed, and materialize all dirty buckets that are closed.

    Nothing has to be run for models to be right: their views compute what is dirty when they are asked.
    """
    settings = _settings()
    project = _project(settings)
    chosen = project.aggregates()
    if name is not None:
        # What a model reads comes first; otherwise its buckets would be dirty again.
        needed = project.below(_find(project, name))
        chosen = [model for model in chosen if model.name in needed]
    _check_syntax(project)
    with _database(settings) as db:
        remade, retired = deploy(db, project, settings.timezone, __version__)
        if remade:
            click.echo(f"Deployed {', '.join(remade)}.")
        for one in retired:
            # One that became another kind was deployed anew.
            if one.model not in remade:
                click.echo(retired_text(one))
        if (remade or retired) and holder_of(plan_directories(settings)[0]) is not None:
            click.echo(RESTART)
        if full:
            for model in chosen:
                if name in (None, model.name):
                    with db.transaction():
                        mark_all(db, model, project.stream_of(model))
        with progress_bar() as report:
            n_buckets = _refresh_all(db, project, chosen, report)
    click.echo(f"{n_buckets:,} buckets materialized." if n_buckets else "No closed bucket was dirty.")


@sql.command()
@MODEL
@click.option(
    "--only", type=click.Choice(["examples", "checks"]), help="Only the examples, or only the checks."
)
def test(name: str | None, *, only: str | None) -> None:
    """Run the models' examples (tests/*.yaml), and check what is in the database (checks/*.sql).

    Examples run in a transaction that is rolled back and touch no data. Failed checks that only warn are no failure.
    """
    settings = _settings()
    project = _project(settings)
    if name is not None:
        _find(project, name)
    files = load_examples(settings.models_dir) if only != "checks" else []
    checks = load_checks(settings.models_dir) if only != "examples" else []
    console = Console(highlight=False)
    n_passed, failed, warned = 0, 0, 0
    with _database(settings) as db:
        for example in run_examples(db, project, [file for file in files if name in (None, file.model)]):
            n_passed += example.passed
            failed += not example.passed
            if not example.passed:
                console.print(example_text(example))
        for result in run_checks(db, project, checks, name):
            n_passed += result.passed
            failed += not result.passed and result.severity == "error"
            warned += not result.passed and result.severity == "warn"
            if not result.passed:
                console.print(check_text(result))
    console.print(summary_text(n_passed, warned, failed))
    if failed:
        sys.exit(1)


@sql.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--html", is_flag=True, help="HTML instead of Markdown.")
def docs(directory: Path, *, html: bool) -> None:
    """Write a page for each model: its columns, where they come from, and the graph of all."""
    pages = write_docs(_project(_settings()), html=html)
    for file, text in pages.items():
        _write(directory, file, text)
    click.echo(f"{len(pages)} pages written to {directory}; begin with index.{'html' if html else 'md'}.")


@sql.command()
@click.argument("name", metavar="MODEL[.COLUMN]")
def lineage(name: str) -> None:
    """Show where a column comes from, down to the readings; without a column, of all columns what they read."""
    project = _project(_settings())
    model_name, _, column = name.partition(".")
    model = _find(project, model_name)
    tree = lineage_tree(project, model, column) if column else None
    answer_console().print(lineage_text(model.name, tree, column_lineage(project, model)))


def _settings() -> Settings:
    settings = load_settings(command_environment())
    log_for_a_person(settings.log)
    return settings


def _project(settings: Settings) -> Project:
    return load_project(load_streams(settings.streams_dir), settings.models_dir)


@contextmanager
def _database(settings: Settings) -> Iterator[SqlDatabase]:
    if settings.database.url is None:
        raise ConfigError("hl is not running. Start it with `hl up`, or set HL_DATABASE__URL.")
    with closing(SqlDatabase(settings.database.url, "hl-sql", BULK)) as db:
        yield db


def _find(project: Project, name: str) -> Model:
    if name not in project.models:
        raise ConfigError(f"There is no model {name!r}. {near(name, project.models)}")
    return project.models[name]


def _compiled(project: Project, model: Model, *, raw: bool, objects: bool) -> str:
    renderer = Renderer(project.streams)
    rendered = renderer.render(model, SCOPE if model.bucket else None)
    parts = [rendered if raw else pretty(model, rendered)]
    if objects:
        stream = project.stream_of(model)
        parts += statements_of(model, project.below(model), stream, renderer, _columns(project, model))
    return ";\n\n".join(parts) + ";\n"


def _columns(project: Project, model: Model) -> list[str]:
    return [*column_lineage(project, model), "bucket_end", "refresh_id"]


def _check_syntax(project: Project) -> None:
    """Says what is no SQL with file and line, before anything is deployed."""
    renderer = Renderer(project.streams)
    for model in project.models.values():
        parsed(model, renderer.render(model, SCOPE if model.bucket else None))


def _refresh_all(db: SqlDatabase, project: Project, models: list[Model], report: Report) -> int:
    refresher = Refresher(db, project, __version__)
    n_buckets = 0
    for model in models:
        total = int(db.rows(N_DIRTY, {"model": model.name})[0][0])
        n_done = 0
        while True:
            done = refresher.refresh(model, limit=MARKS_AT_ONCE)
            if done.n_marks == 0:
                break
            n_done += done.n_marks
            n_buckets += done.n_buckets
            report(model.name, n_done, max(total, n_done))
    return n_buckets


def _write(directory: Path, name: str, text: str) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{directory / name} cannot be written: {exc.strerror}.") from exc
