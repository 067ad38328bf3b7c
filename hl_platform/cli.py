"""The `hl` command. Each subcommand is imported when it is used, so that `hl status` does not wait for `hl up`."""

import importlib
import keyword
from typing import Any

import click

from hl_platform import __version__
from hl_platform.core.errors import ConfigError, HlError

EXIT_CONFIG = 2
# In the order of a day.
COMMANDS = {
    "up": "hl_platform.stack.up",
    "status": "hl_platform.stack.status",
    "check": "hl_platform.stack.check",
    "top": "hl_platform.stack.top",
    "lag": "hl_platform.stack.lag",
    "tail": "hl_platform.stack.tail",
    "logs": "hl_platform.stack.logs",
    "dlq": "hl_platform.stack.dlq",
    "sql": "hl_platform.stack.sql",
    "stream": "hl_platform.stack.stream",
    "import": "hl_platform.stack.importing",
    "tariff": "hl_platform.stack.tariffs",
    "token": "hl_platform.stack.tokens",
    "psql": "hl_platform.stack.database",
    "grafana": "hl_platform.stack.grafana.command",
    "simulate": "hl_platform.simulator.command",
    "migrate": "hl_platform.stack.database",
    "archive": "hl_platform.stack.archive",
    "down": "hl_platform.stack.up",
}


class HlGroup(click.Group):
    """Commands whose errors are one clear sentence; those of settings end with exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """All subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The subcommand of that name: a function of that name in its module, `import_` for `import`."""
        if cmd_name not in COMMANDS:
            return None
        function = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Runs a subcommand."""
        try:
            return super().invoke(ctx)
        except HlError as exc:
            click.echo(str(exc), err=True)
            ctx.exit(EXIT_CONFIG if isinstance(exc, ConfigError) else 1)


@click.group(cls=HlGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hl")
def main() -> None:
    """Home and IoT telemetry: MQTT to Kafka to PostgreSQL exactly once, live in the browser, run by Dagster."""


if __name__ == "__main__":
    main()
