"""`hl migrate` and `hl psql`."""

import os
import threading

import click

from hl_platform.adapters.log_output import log_for_a_person
from hl_platform.adapters.postgres.libpq import libpq_environment
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.stack.connection import command_environment
from hl_platform.stack.layout import plan_layout
from hl_platform.stack.postgres import find_psql
from hl_platform.stack.prepare import prepare_data


@click.command()
def migrate() -> None:
    """Bring the database and Kafka to what this version and the declared streams need."""
    settings = load_settings(command_environment())
    if settings.database.url is None or settings.kafka.bootstrap_servers is None:
        raise ConfigError(
            "hl is not running. Start it with `hl up`, which migrates as well, or set HL_DATABASE__URL and "
            "HL_KAFKA__BOOTSTRAP_SERVERS."
        )
    log_for_a_person(settings.log)
    prepare_data(settings, click.echo, threading.Event())
    click.echo("Everything is as this version needs it.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--owner", is_flag=True, help="As the owner of the tables, not as the read-only user.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...], *, owner: bool) -> None:
    """Open a SQL prompt on the running database; arguments go to psql."""
    settings = load_settings(command_environment())
    url = settings.database.url if owner else settings.database.read_url or settings.database.url
    if url is None:
        raise ConfigError("hl is not running. Start it with `hl up`, or set HL_DATABASE__URL.")
    program = find_psql(plan_layout(settings))
    os.environ.update(libpq_environment(url))
    os.execv(program, ["psql", *arguments])  # noqa: S606 - no shell, which is what is meant
