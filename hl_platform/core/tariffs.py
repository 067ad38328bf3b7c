"""Rates that a household pays for energy, and prices of the spot market, as people write them."""

import csv
import math
from collections.abc import Iterable
from datetime import date, datetime, tzinfo
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from hl_platform.core.errors import ConfigError
from hl_platform.core.levels import local_midnight

TariffKind = Literal["flat", "time_of_use", "spot"]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = 127


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """One rate; of those that match an hour, migrations/0006_tariffs.sql says which counts.

    Args:
        device_id: which meter; None for all of the stream.
        valid_from, valid_to: half-open; `valid_to` None: until further notice.
        price_per_kwh: of a spot tariff what comes on top of the market's price.
        weekdays: bits, Monday 1 to Sunday 64.
        local_from, local_to: on the household's clock, half-open, full hours from 00:00 to 24:00.
        area: of the spot market; None for other kinds.
    """

    name: str
    stream: str = "energy"
    device_id: str | None = None
    valid_from: datetime
    valid_to: datetime | None = None
    kind: TariffKind = "flat"
    price_per_kwh: float = 0.0
    currency: str
    weekdays: int = EVERY_DAY
    local_from: str = "00:00"
    local_to: str = "24:00"
    area: str | None = None
    standing_charge_per_day: float = 0.0


class SpotPrice(NamedTuple):
    """What a kWh costs on the spot market in a half-open range of time."""

    start_at: datetime
    end_at: datetime
    price_per_kwh: float


def parse_weekdays(text: str) -> int:
    """Bits of days such as `mon-fri` or `sat,sun`; raises ValueError where the text is not like that."""
    mask = 0
    for part in text.lower().split(","):
        first, _, last = part.strip().partition("-")
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        # Round the week's end: fri-mon.
        for number in range(begin, end + 1 if end >= begin else end + 8):
            mask |= 1 << number % 7
    return mask


def show_weekdays(mask: int) -> str:
    """The days of a mask, such as `mon,tue`."""
    return ",".join(name for number, name in enumerate(WEEKDAYS) if mask >> number & 1)


def parse_hours(text: str) -> tuple[str, str]:
    """Begin and end of a time of use such as `22-6` or `06:00-22:00`; raises ValueError for anything but full hours."""
    begin, _, end = text.partition("-")
    first, last = _hour(begin), _hour(end)
    if first in (last, 24):
        raise ValueError(text)
    return f"{first:02}:00", f"{last:02}:00"


def _hour(text: str) -> int:
    hour, _, minute = text.strip().partition(":")
    number = int(hour)
    if not 0 <= number <= 24 or minute not in ("", "00"):  # noqa: PLR2004 - hours of a day
        raise ValueError(text)
    return number


def parse_local(text: str, zone: tzinfo) -> datetime:
    """An aware time, or the midnight of a local date; raises ValueError where the text is neither."""
    try:
        return local_midnight(date.fromisoformat(text), zone)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def parse_price(text: str) -> float:
    """A price; raises ValueError for what is no number, and for nan and inf, which would make every cost so."""
    price = float(text)
    if not math.isfinite(price):
        raise ValueError(text)
    return price


def parse_spot_csv(lines: Iterable[str], file: str) -> list[SpotPrice]:
    """Prices of a CSV file with the columns `start`, `price_per_kwh` and, if there are gaps, `end`.

    Args:
        lines: of the file, with a head line; times in ISO 8601 with offset, rising.
        file: its name, for messages.

    Raises:
        ConfigError: names the line and what is allowed.
    """
    found: list[tuple[datetime, datetime | None, float]] = []
    reader = csv.DictReader(lines)
    for row in reader:
        try:
            end = row.get("end")
            found.append(
                (_aware(row["start"]), _aware(end) if end else None, parse_price(row["price_per_kwh"]))
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"{file}, line {reader.line_num}: not a price. Write the columns start,price_per_kwh or "
                "start,end,price_per_kwh, such as 2026-01-31T08:00:00+01:00,0.0812."
            ) from exc
    starts = [start for start, _, _ in found]
    if any(before >= after for before, after in pairwise(starts)):
        raise ConfigError(f"{file}: the times in column `start` must rise.")
    # Without an end, a price holds until the next one; the last one as long as the one before it.
    lengths = [after - before for before, after in pairwise(starts)]
    if any(end is None for _, end, _ in found) and not lengths:
        raise ConfigError(f"{file}: a single price needs the column `end`.")
    lengths += lengths[-1:]
    return [
        SpotPrice(start, end or start + lengths[number], price)
        for number, (start, end, price) in enumerate(found)
    ]


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
