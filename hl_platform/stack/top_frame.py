"""One frame of `hl top`. Pure."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hl_platform.adapters.postgres.silent_devices import MAX_SHOWN, SilentDevice
from hl_platform.adapters.postgres.status import StageTotals
from hl_platform.core.lag import PartitionLag
from hl_platform.core.probe import measure_budget_ms
from hl_platform.stack.backlog import backlog_renderable
from hl_platform.stack.display import STYLES, duration_text
from hl_platform.stack.lag import STYLES as LAG_STYLES
from hl_platform.stack.tables import plain_table, two_lines
from hl_platform.stack.top_read import Snapshot

LEVELS = ("shown", "ok", "warning", "critical")
N_SILENT = 8
COUNTS = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped")


def rates(
    now: Sequence[StageTotals], before: Sequence[StageTotals], seconds: float
) -> dict[str, dict[str, float]]:
    """What each stage counted per second, by stage and count.

    Args:
        now: totals at one moment.
        before: totals at an earlier one.
        seconds: between them; at 0 nothing is known, and nothing is told.
    """
    earlier = {stage.name: stage for stage in before}
    return {
        stage.name: {
            name: max(0.0, (getattr(stage, name) - getattr(earlier[stage.name], name)) / seconds)
            for name in COUNTS
        }
        for stage in now
        if stage.name in earlier and seconds > 0
    }


def frame(now: Snapshot, before: Snapshot) -> RenderableType:
    """Everything that is worth a look, what is wrong first.

    Args:
        now: the state to show.
        before: an earlier one, for the rates.
    """
    parts: list[RenderableType] = [_services(now)]
    parts += [Text(problem, style="bold red") for problem in now.problems]
    parts += [
        Text(f"{alert.service}: {alert.text} ({alert.code})", style="bold red")
        for alert in now.pipeline.alerts
    ]
    parts += [_stages(now, before), _delays(now)]
    if now.lag:
        parts.append(_lag(now.lag))
    if now.backlog:
        parts.append(backlog_renderable(now.backlog))
    parts.append(_silent(now.silent))
    return Group(*parts)


def _services(now: Snapshot) -> Text:
    shown = Text("hl  ", style="bold")
    for service in now.services:
        state = str(service["state"])
        style = STYLES.get(state, "bold red" if state == "stale" else "yellow")
        shown.append(str(service["name"]), style=style)
        shown.append("  " if state == "running" else f" {state}  ", style=style)
    return shown


def _stages(now: Snapshot, before: Snapshot) -> Table:
    table = plain_table("Readings a second", ("stage",), two_lines((*COUNTS, "in_flight")))
    told = rates(now.pipeline.stages, before.pipeline.stages, now.at_s - before.at_s)
    for stage in now.pipeline.stages:
        of_stage = told.get(stage.name, {})
        cells = [f"{of_stage[name]:,.1f}" if name in of_stage else "" for name in COUNTS]
        table.add_row(stage.name, *cells, f"{stage.in_flight:,}")
    return table


def _delays(now: Snapshot) -> Table:
    title = "Delay over the last 5 minutes, in ms"
    table = plain_table(title, ("from device to",), ("p50", "p99", "max", "budget"))
    for measure, delay in now.pipeline.delays.items():
        budget = measure_budget_ms(measure)
        cells = [_delay_cell(value, budget) for value in delay]
        table.add_row(measure.removeprefix("device_to_"), *cells, f"{budget:,.0f}")
    return table


def _delay_cell(value: float | None, budget: float) -> Text:
    if value is None:
        return Text("")
    return Text(f"{value:,.1f}", style="yellow" if value > budget else "green")


def _lag(places: Sequence[PartitionLag]) -> Table:
    table = plain_table("Lag", ("consumer group",), ("records",))
    for group in dict.fromkeys(place.consumer_group for place in places):
        own = [place for place in places if place.consumer_group == group]
        worst = max((place.level for place in own), key=LEVELS.index)
        table.add_row(group, Text(f"{sum(place.n_records for place in own):,}", style=LAG_STYLES[worst]))
    return table


def _silent(devices: Sequence[SilentDevice]) -> Text:
    if not devices:
        return Text("No device is silent.", style="green")
    ordered = sorted(devices, key=lambda device: device.age_s)
    shown = ", ".join(
        f"{device.stream} {device.device_id} {duration_text(device.age_s)}" for device in ordered[:N_SILENT]
    )
    n = f"{len(devices)}" if len(devices) < MAX_SHOWN else f"{len(devices)} or more"
    more = f" and {len(devices) - N_SILENT} more" if len(devices) > N_SILENT else ""
    return Text(f"Silent, {n}: {shown}{more}", style="yellow")
