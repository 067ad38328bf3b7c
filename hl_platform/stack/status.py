"""`hl status`: what runs, what flows, how far behind, how quick, and what waits for a refresh."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dbt_like_sql.engine.marks import Backlog
from hl_platform.adapters.kafka.lag import read_lag
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import PipelineStatus, ServiceHolder, read_status
from hl_platform.core.errors import HlError
from hl_platform.core.settings import Settings, load_settings
from hl_platform.stack.backlog import backlog_document, backlog_renderable, read_waiting
from hl_platform.stack.connection import command_environment
from hl_platform.stack.display import STYLES, duration_text
from hl_platform.stack.layout import plan_directories
from hl_platform.stack.state import ProgramState, read_state
from hl_platform.stack.tables import answer_console, plain_table, two_lines
from hl_platform.streams import load_streams

STAGE_COLUMNS = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight")
STATE_STYLES = {**STYLES, "stale": "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--secrets", is_flag=True, help="Show the addresses of the databases with their passwords.")
def status(*, as_json: bool, secrets: bool) -> None:
    """Show what runs, what flows, how far behind it is, how quick, and which aggregates wait for a refresh."""
    settings = load_settings(command_environment())
    if secrets:
        _print_secrets(settings)
        return
    report = read_report(settings)
    if as_json:
        click.echo(json.dumps(report.document, indent=2))
    elif report.running:
        print_report(answer_console(), report)
    for problem in report.problems:
        click.echo(problem, err=True)
    if report.problems:
        sys.exit(1)


def _print_secrets(settings: Settings) -> None:
    for url in (settings.database.url, settings.database.read_url, settings.dagster.database_url):
        if url is not None:
            click.echo(url)


class StatusReport(NamedTuple):
    """Everything that `hl status` shows.

    Args:
        running: whether a stack runs on this data directory.
        document: what `--json` prints.
        problems: what could not be read, one sentence each.
        backlog: what of the aggregates waits for a refresh, by model.
    """

    running: bool
    document: dict[str, object]
    problems: list[str]
    backlog: Sequence[Backlog] = ()


def read_report(settings: Settings) -> StatusReport:
    """The state of the stack and of what flows through it; what cannot be read is left out and named."""
    data_dir, _ = plan_directories(settings)
    state = read_state(data_dir)
    programs = [] if state is None else state.programs
    problems = [] if state is not None else ["hl is not running. Start it with `hl up`."]
    pipeline = PipelineStatus([], [], {}, {})
    backlog: list[Backlog] = []
    lag: dict[str, int] = {}
    # Where nothing runs, the servers are asked only if they are the user's own.
    if settings.database.url is not None:
        try:
            url = settings.database.read_url or settings.database.url
            with connect(url, application_name="hl-status") as conn:
                pipeline = read_status(conn)
            backlog = read_waiting(settings)
        except HlError as exc:
            problems.append(f"PostgreSQL does not tell: {exc}")
    if settings.kafka.bootstrap_servers is not None:
        try:
            streams = load_streams(settings.streams_dir).values()
            lag = read_lag(settings.kafka, streams, pipeline.next_offsets)
        except HlError as exc:
            problems.append(f"Kafka does not tell: {exc}")
    services = list_services(programs, pipeline.holders, settings.service.stale_after_s)
    document = {
        "services": services,
        **pipeline.document(lag),
        "refresh_backlog": [backlog_document(one) for one in backlog],
    }
    return StatusReport(state is not None, document, problems, backlog)


def print_report(console: Console, report: StatusReport) -> None:
    """Shows it to a person."""
    document = report.document
    console.print(_services_table(document["services"]))  # type: ignore[arg-type] # made above
    if document["stages"]:
        console.print(_stages_table(document["stages"]))  # type: ignore[arg-type]
    print_balances(console, document["balances"])  # type: ignore[arg-type]
    print_alerts(console, document["alerts"])  # type: ignore[arg-type]
    if document["lag"]:
        console.print(_lag_table(document["lag"]))  # type: ignore[arg-type]
    if document["delay_ms"]:
        console.print(_delay_table(document["delay_ms"]))  # type: ignore[arg-type]
    if report.backlog:
        console.print(backlog_renderable(report.backlog))


def print_balances(console: Console, balances: list[dict[str, object]]) -> None:
    """Says whether the accounts balance; if they do not, where, by how much and since when."""
    if not balances:
        return
    wrong = [balance for balance in balances if balance["n_records"]]
    compared_at = min(str(balance["compared_at"]) for balance in balances)
    age_s = (datetime.now(UTC) - datetime.fromisoformat(compared_at)).total_seconds()
    when = f"as of {duration_text(max(0.0, age_s))} ago"
    if not wrong:
        console.print(Text(f"Accounts balance, {when}.", style="green"))
    for balance in wrong:
        console.print(
            Text(
                f"Accounts of {balance['stream']} differ by {balance['n_records']} at {balance['stage']}, "
                f"{balance['interval']}; {when}. {balance['explanation']}",
                style="bold red",
            )
        )


def print_alerts(console: Console, alerts: list[dict[str, object]]) -> None:
    """Shows what a person should know, each with what helps."""
    for alert in alerts:
        whose = f"{alert['service']}, {alert['stream']}" if alert["stream"] else alert["service"]
        since = f"since {datetime.fromisoformat(str(alert['since'])):%Y-%m-%d %H:%M:%S} UTC"
        console.print(Text(f"{whose}: {alert['text']} ({alert['code']}, {since})", style="bold red"))


def list_services(
    programs: list[ProgramState], holders: list[ServiceHolder], stale_after_s: float
) -> list[dict[str, object]]:
    """Programs and services as `hl status` shows them: name, state, pid and uptime_s.

    Args:
        programs: of the running stack; empty where there is none.
        holders: of the leases.
        stale_after_s: age of a heartbeat at which its service counts as dead.
    """
    now = time.time()
    # Steps and services are in the stack's list while it starts; who holds a lease is known better below.
    held = {holder.service: holder for holder in holders if holder.stage in ("bridge", "sink")}
    rows: list[dict[str, object]] = [
        {
            "name": program.name,
            "state": program.state,
            "pid": program.pid,
            "uptime_s": round(now - program.since, 1) if program.state == "running" else None,
        }
        for program in programs
        if program.state != "done" and program.name not in held
    ]
    planned = {program.name for program in programs}
    for name, holder in held.items():
        if holder.released and planned and name not in planned:
            # Of an earlier layout, such as the one bridge before there were two.
            continue
        stale = holder.beat_age_s > stale_after_s
        running = not holder.released and not stale
        state = "running" if running else "stopped" if holder.released else "stale"
        rows.append(
            {
                "name": name,
                "state": state,
                "pid": holder.pid if running else None,
                "uptime_s": round(holder.uptime_s, 1) if running else None,
            }
        )
    return rows


def _services_table(rows: list[dict[str, object]]) -> Table:
    table = plain_table("Services", ("name", "state"), ("pid", "up"))
    for row in rows:
        uptime_s = row["uptime_s"]
        table.add_row(
            str(row["name"]),
            Text(str(row["state"]), style=STATE_STYLES.get(str(row["state"]), "yellow")),
            str(row["pid"] or ""),
            duration_text(float(str(uptime_s))) if uptime_s is not None else "",
        )
    return table


def _stages_table(stages: list[dict[str, object]]) -> Table:
    table = plain_table("Readings", ("stage",), two_lines(STAGE_COLUMNS))
    for stage in stages:
        table.add_row(str(stage["name"]), *(f"{stage[column]:,}" for column in STAGE_COLUMNS))
    return table


def _lag_table(lag: dict[str, int]) -> Table:
    table = plain_table("Lag", ("consumer group",), ("records",))
    for group, n_records in lag.items():
        table.add_row(group, f"{n_records:,}")
    return table


def _delay_table(delays: dict[str, dict[str, float | None]]) -> Table:
    title = "Delay over the last 5 minutes, in ms"
    table = plain_table(title, ("from device to",), ("p50", "p99", "max", "budget"))
    for measure, values in delays.items():
        shown = ("" if value is None else f"{value:,.1f}" for value in values.values())
        table.add_row(measure.removeprefix("device_to_"), *shown)
    return table
