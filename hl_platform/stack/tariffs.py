"""`hl tariff`: what energy costs."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec
from rich.table import Table

from hl_platform.adapters.postgres.tariffs import TariffStore
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, load_settings
from hl_platform.core.tariffs import (
    EVERY_DAY,
    Tariff,
    TariffKind,
    parse_hours,
    parse_local,
    parse_spot_csv,
    parse_weekdays,
    show_weekdays,
)
from hl_platform.stack.connection import command_environment
from hl_platform.stack.tables import answer_console, plain_table

MOMENT = "a local date such as 2026-01-31, or a time with offset"


@click.group()
def tariff() -> None:
    """Say what energy costs; see it with `GET /api/v1/energy/cost`."""


@tariff.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(*, as_json: bool) -> None:
    """Show all rates; of those that match an hour the uppermost counts."""
    settings = load_settings(command_environment())
    found = _store(settings).list()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
    elif found:
        answer_console().print(_table(found, ZoneInfo(settings.timezone)))
    else:
        click.echo("There are no rates. `hl tariff set NAME --price 0.30` sets one.")


@tariff.command("set")
@click.argument("name")
@click.option(
    "--price", type=float, default=0.0, help="Of a kWh; with --area what comes on top of the market's."
)
@click.option("--currency", default="EUR", show_default=True, help="Three capitals.")
@click.option("--from", "valid_from", help=f"Begin: {MOMENT}.  [default: today]")
@click.option("--to", "valid_to", help="End, exclusive.  [default: until further notice]")
@click.option("--device", "device_id", help="Only this meter.")
@click.option("--days", help="Time of use: mon-fri, or sat,sun.")
@click.option("--hours", help="Time of use: 22-6, full hours on the household's clock.")
@click.option("--area", help="Spot market: prices come from `hl tariff import-spot`.")
@click.option("--standing", type=float, default=0.0, help="Standing charge of a day, for each meter.")
def set_(name: str, **given: Any) -> None:  # noqa: ANN401 - the options
    """Set a rate; a later begin wins, so the old one needs no end."""
    settings = load_settings(command_environment())
    made = plan_tariff(name, ZoneInfo(settings.timezone), datetime.now(UTC), **given)
    _store(settings).set(made)
    click.echo(
        f"{made.name}: set from {made.valid_from.astimezone(ZoneInfo(settings.timezone)).isoformat()}."
    )


@tariff.command("import-spot")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--area", required=True, help="Of the market, as in `hl tariff set --area`.")
def import_spot(file: Path, area: str) -> None:
    """Take prices from a CSV file with columns start,price_per_kwh, and end if there are gaps."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} cannot be read: {exc}") from exc
    prices = parse_spot_csv(lines, file.name)
    _store(load_settings(command_environment())).put_prices(area, prices)
    click.echo(f"{len(prices):,} prices of {area}.")


def plan_tariff(
    name: str,
    zone: ZoneInfo,
    now: datetime,
    *,
    price: float,
    currency: str,
    valid_from: str | None,
    valid_to: str | None,
    device_id: str | None,
    days: str | None,
    hours: str | None,
    area: str | None,
    standing: float,
) -> Tariff:
    """The rate that the options of `hl tariff set` mean.

    Raises:
        UsageError: one of them is not allowed, or they do not go together.
    """
    for option, value in (("--price", price), ("--standing", standing)):
        if not math.isfinite(value):
            raise click.UsageError(f"{option} {value} is not allowed. Write a number such as 0.30.")
    timed = days is not None or hours is not None
    if timed and area is not None:
        raise click.UsageError("--area does not go with --days and --hours.")
    kind: TariffKind = "spot" if area else "time_of_use" if timed else "flat"
    today = now.astimezone(zone).date().isoformat()
    try:
        local_from, local_to = parse_hours(hours) if hours else ("00:00", "24:00")
        return Tariff(
            name=name,
            device_id=device_id,
            valid_from=parse_local(valid_from or today, zone),
            valid_to=parse_local(valid_to, zone) if valid_to else None,
            kind=kind,
            price_per_kwh=price,
            currency=currency,
            weekdays=parse_weekdays(days) if days else EVERY_DAY,
            local_from=local_from,
            local_to=local_to,
            area=area,
            standing_charge_per_day=standing,
        )
    except ValueError as exc:
        raise click.UsageError(
            f"{exc}. Write --days as mon-fri, --hours as 22-6, and --from and --to as {MOMENT}."
        ) from exc


def _store(settings: Settings) -> TariffStore:
    if settings.database.url is None:
        raise ConfigError("hl is not running. Start it with `hl up`, or set HL_DATABASE__URL.")
    return TariffStore(settings.database.url, "hl-tariff")


def _table(tariffs: Sequence[Tariff], zone: ZoneInfo) -> Table:
    heads = ("name", "device", "from", "to", "kind", "when")
    table = plain_table("Rates", heads, ("per kWh", "per day"))
    for one in tariffs:
        when = (
            f"{show_weekdays(one.weekdays)} {one.local_from}-{one.local_to}"
            if one.kind == "time_of_use"
            else ""
        )
        table.add_row(
            one.name,
            one.device_id or "all",
            _moment(one.valid_from, zone),
            _moment(one.valid_to, zone),
            one.kind,
            one.area or when,
            f"{one.price_per_kwh:g} {one.currency}",
            f"{one.standing_charge_per_day:g}",
        )
    return table


def _moment(at: datetime | None, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}" if at else ""
