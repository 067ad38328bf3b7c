"""`hl logs`: what the processes wrote, readable."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.stack.files import tail
from hl_platform.stack.layout import plan_directories

FOLLOW_POLL_S = 0.25
ALIASES = {"dagster": "dagster-code", "postgresql": "postgres"}


@click.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written.")
@click.option("-n", "--lines", default=40, show_default=True, help="Lines of each log to begin with.")
def logs(service: str | None, *, follow: bool, lines: int) -> None:
    """Show the log of one service, or of all."""
    data_dir, _ = plan_directories(load_settings(os.environ))
    paths = find_logs(data_dir / "logs", service)
    for path in paths:
        for line in tail(path, lines):
            _echo(path, line, named=len(paths) > 1)
    positions = {path: path.stat().st_size for path in paths}
    while follow:
        time.sleep(FOLLOW_POLL_S)
        positions = _follow(positions, lambda path, line: _echo(path, line, named=len(paths) > 1))


def find_logs(directory: Path, service: str | None) -> list[Path]:
    """The log files of a service, or of all.

    Raises:
        ConfigError: there is no such log; lists those that there are.
    """
    found = {path.stem: path for path in sorted(directory.glob("*.log"))}
    if not found:
        raise ConfigError(f"There are no logs in {directory} yet. Start hl with `hl up`.")
    if service is None:
        return list(found.values())
    name = service if service in found else ALIASES.get(service, service)
    if name not in found:
        raise ConfigError(f"There is no log of {service!r}. There are: {', '.join(found)}.")
    return [found[name]]


def readable(line: str) -> str:
    """A line of a log for a person: time, level and event first where it is JSON, else as it is."""
    if not line.startswith("{"):
        return line
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    head = " ".join(str(entry.pop(key, "")) for key in ("timestamp", "level", "event"))
    return " ".join([head, *(f"{key}={value}" for key, value in entry.items())])


def _echo(path: Path, line: str, *, named: bool) -> None:
    click.echo(f"{path.stem:<14} {readable(line)}" if named else readable(line))


def _follow(positions: Mapping[Path, int], echo: Callable[[Path, str], None]) -> dict[Path, int]:
    moved = {}
    for path, position in positions.items():
        size = path.stat().st_size if path.exists() else 0
        # A smaller file is a new one: the process was started again.
        start = position if size >= position else 0
        moved[path] = start
        if size > start:
            with path.open("rb") as file:
                file.seek(start)
                text = file.read()
            # A line is shown when it is whole.
            whole = text[: text.rfind(b"\n") + 1]
            moved[path] = start + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                echo(path, line)
    return moved
