"""`hl stream`: which streams there are, and files to begin a new one with."""

from pathlib import Path

import click
from rich.table import Table

from dbt_like_sql.engine.scaffold import scaffold_models
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, load_settings
from hl_platform.core.streams import Stream, check_streams, parse_stream
from hl_platform.stack.connection import command_environment
from hl_platform.stack.stream_text import parse_field, stream_text
from hl_platform.stack.tables import answer_console
from hl_platform.streams import load_streams


@click.group()
def stream() -> None:
    """Show the declared streams, or begin a new one."""


@stream.command("list")
def list_() -> None:
    """Show the declared streams."""
    settings = load_settings(command_environment())
    table = Table(box=None, padding=(0, 2))
    for head in ("stream", "MQTT filter", "Kafka topic", "table", "fields"):
        table.add_column(head, overflow="fold")
    for found in load_streams(settings.streams_dir).values():
        fields = ", ".join(field.name for field in found.fields)
        topic = f"{found.kafka_topic} ({found.kafka_partitions})"
        table.add_row(found.name, found.mqtt_filter, topic, found.table, fields)
    answer_console().print(table)


@stream.command()
@click.argument("name")
@click.option(
    "--field", "fields", multiple=True, metavar="NAME:KIND[:UNIT[:TYPE]]", help="Such as power_kw:gauge:kW."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write.  [default: HL_STREAMS_DIR, and HL_MODELS_DIR for the models]",
)
def scaffold(name: str, fields: tuple[str, ...], directory: Path | None) -> None:
    """Write the declaration of a stream, and its SQL models to change. Never overwrites a file.

    Without --field, first an example of a declaration to edit; run it again then for the models.
    """
    settings = load_settings(command_environment())
    streams_dir, models_dir = _directories(settings, directory)
    file = streams_dir / f"{name}.toml"
    is_new = not file.exists()
    if not is_new and fields:
        raise ConfigError(f"{file} is there already. Edit it, or leave --field out to write its models.")
    text = stream_text(name, [parse_field(field) for field in fields]) if is_new else file.read_text("utf-8")
    declared = parse_stream(text, str(file))
    _check_beside_others(settings, file, declared)
    if is_new:
        _write(file, text)
    # An example is edited first; its models would be about the wrong fields.
    models = {} if is_new and not fields else scaffold_models(declared)
    for model, sql in models.items():
        if (models_dir / model).exists():
            click.echo(f"kept     {models_dir / model}")
        else:
            _write(models_dir / model, sql)
    click.echo(_what_next(settings, name, file, models_dir, with_models=bool(models)))


def _directories(settings: Settings, directory: Path | None) -> tuple[Path, Path]:
    streams_dir = directory or (Path(settings.streams_dir) if settings.streams_dir else None)
    if streams_dir is None:
        raise ConfigError("Say where to write: --dir DIRECTORY, or set HL_STREAMS_DIR.")
    return streams_dir, directory or (Path(settings.models_dir) if settings.models_dir else streams_dir)


def _check_beside_others(settings: Settings, file: Path, declared: Stream) -> None:
    known = settings.streams_dir if settings.streams_dir and Path(settings.streams_dir).is_dir() else None
    others = [(f"{name}.toml", other) for name, other in load_streams(known).items() if name != declared.name]
    check_streams([*others, (str(file), declared)])


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # "x": somebody may have written it meanwhile.
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}.") from exc
    click.echo(f"written  {file}")


def _what_next(settings: Settings, name: str, file: Path, models_dir: Path, *, with_models: bool) -> str:
    steps = []
    if not with_models:
        steps.append(
            f"Edit {file}. Its models need no files; run `hl stream scaffold {name}` again if you want to change them."
        )
    if settings.streams_dir is None or Path(settings.streams_dir) != file.parent:
        steps.append(f"Set HL_STREAMS_DIR={file.parent}.")
    if with_models and (settings.models_dir is None or Path(settings.models_dir) != models_dir):
        steps.append(f"Set HL_MODELS_DIR={models_dir}; without it, models are made from the declaration.")
    steps.append("Start hl anew with `hl up`: it makes the table, the Kafka topic and the models.")
    steps.append(f"Publish a reading to homelab/{name}/DEVICE, as docs/streams.md shows.")
    return "\n".join(("Next:", *(f"{number}. {step}" for number, step in enumerate(steps, 1))))
