"""`hl check`: does a reading come through, and how quickly."""

import json
import sys
from collections.abc import Mapping, Sequence

import click
from rich.table import Table
from rich.text import Text

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import PipelineStatus, read_status
from hl_platform.core.errors import ConfigError, HlError
from hl_platform.core.probe import BUDGET_MS, STAGES, Step, first_failed
from hl_platform.core.settings import Settings, load_settings
from hl_platform.core.streams import Stream
from hl_platform.stack.check_advice import explain
from hl_platform.stack.check_run import CheckReport, run_check
from hl_platform.stack.connection import command_environment
from hl_platform.stack.tables import answer_console, plain_table
from hl_platform.streams import load_streams

NOTHING = "-"
STYLES = {"ok": "green", "slow": "yellow", "failed": "bold red", "skipped": "dim"}


@click.command()
@click.argument("stream", nargs=-1)
@click.option(
    "--limit",
    "limit_s",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="Seconds to wait at each stage.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(*, stream: tuple[str, ...], limit_s: float, as_json: bool) -> None:
    """Send a probe through every stage; say how long each takes, or where it stops.

    One for each STREAM, or for all. The probe is a reading of the device `hl-probe`, which no table of readings, no
    aggregate and no page ever shows. Exit code 1 if one does not come through; slow is not failed.
    """
    settings = load_settings(command_environment())
    require_running(settings)
    chosen = choose_streams(settings, stream)
    report = run_check(settings, chosen, limit_s)
    stage = first_failed(report.steps)
    advice = []
    if stage is not None:
        problem = report.problems.get(stage.name)
        advice = explain(stage, report.steps, problem, _status(settings), settings.service.stale_after_s)
    if as_json:
        click.echo(json.dumps(_document(report, advice), indent=2))
    else:
        console = answer_console()
        console.print(_table(report))
        for line in advice:
            console.print(Text(line, style="red"), soft_wrap=True)
    sys.exit(1 if stage is not None else 0)


def require_running(settings: Settings) -> None:
    """Makes sure that there is something to look at.

    Raises:
        ConfigError: hl is not running, and the settings name no servers of the user's own.
    """
    if None in (settings.mqtt.host, settings.kafka.bootstrap_servers, settings.database.url):
        raise ConfigError("hl is not running. Start it with `hl up`.")


def choose_streams(settings: Settings, names: Sequence[str]) -> dict[str, Stream]:
    """The streams of these names, or all.

    Raises:
        ConfigError: there is none of that name; the message lists those there are.
    """
    streams = load_streams(settings.streams_dir)
    for name in names:
        if name not in streams:
            raise ConfigError(f"There is no stream {name!r}. Streams: {', '.join(streams)}.")
    return {name: streams[name] for name in names} if names else dict(streams)


def _status(settings: Settings) -> PipelineStatus | None:
    try:
        with connect(settings.database.url or "", application_name="hl-check-status") as conn:
            return read_status(conn)
    except HlError:
        return None


def _document(report: CheckReport, advice: Sequence[str]) -> Mapping[str, object]:
    return {
        "ok": not advice,
        "stages": [
            {
                "stream": step.stream,
                "stage": step.stage.name,
                "outcome": step.outcome,
                "delay_ms": None if step.delay_ms is None else round(step.delay_ms, 1),
                "budget_ms": step.stage.budget_ms,
            }
            for step in report.steps
        ],
        "total_ms": {
            name: None if total is None else round(total, 1) for name, total in report.total_ms.items()
        },
        "budget_ms": BUDGET_MS,
        "advice": list(advice),
    }


def _table(report: CheckReport) -> Table:
    table = plain_table("A probe through every stage, in ms", ("stage",), (*report.total_ms, "budget"))
    for stage in STAGES:
        cells = [_cell(step) for step in report.steps if step.stage == stage]
        table.add_row(stage.title, *cells, f"{stage.budget_ms:,.0f}")
    totals = [_total(total) for total in report.total_ms.values()]
    table.add_row("in all", *totals, f"{BUDGET_MS:,.0f}")
    return table


def _cell(step: Step) -> Text:
    shown = step.outcome if step.delay_ms is None else f"{step.delay_ms:,.1f}"
    if step.outcome == "slow":
        shown = f"slow {shown}"
    return Text(NOTHING if step.outcome == "skipped" else shown, style=STYLES[step.outcome])


def _total(total_ms: float | None) -> Text:
    if total_ms is None:
        return Text(NOTHING, style=STYLES["skipped"])
    return Text(f"{total_ms:,.1f}", style=STYLES["ok" if total_ms <= BUDGET_MS else "slow"])
