"""`hl grafana`."""

from pathlib import Path

import click

from dbt_like_sql.engine.project import load_project
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.stack.connection import command_environment
from hl_platform.stack.grafana.files import grafana_files
from hl_platform.streams import load_streams


@click.command()
@click.option(
    "--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where to write them."
)
def grafana(directory: Path) -> None:
    """Write a data source and dashboards for Grafana: one for each stream, also your own, and one of the pipeline."""
    settings = load_settings(command_environment())
    project = load_project(load_streams(settings.streams_dir), settings.models_dir)
    files = grafana_files(project, settings.timezone)
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            click.echo(path)
    except OSError as exc:
        raise ConfigError(f"--dir {directory} cannot be written: {exc}") from exc
