"""An electricity meter: power that follows a household's day, and a counter that is exactly its integral.

Every part of the power has an integral in closed form: the day's profile and the seasons by formula, the
refrigerator by counting its cycles, the ripples because each adds up to nothing, and the appliances because
they run at random times but as long every day. So the counter at any moment costs as much as the power does,
and a simulator that restarts continues the same counter.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

from hl_platform.simulator.noise import ripple, ripple_integral, seed_of, unit, wander

DAY_S = 86_400.0
HOUR_S = 3_600.0
YEAR_S = 365.2425 * DAY_S
# 2015-01-01T00:00:00Z, when every simulated meter showed nothing, in Unix seconds.
EPOCH_S = 1_420_070_400.0

# Kilowatts on each full hour of a day, with straight lines between them.
DAY_PROFILE_KW = (
    *(0.22, 0.20, 0.20, 0.20, 0.22, 0.30, 0.55, 0.70, 0.55, 0.45, 0.45, 0.50),
    *(0.60, 0.50, 0.45, 0.45, 0.50, 0.70, 0.95, 1.00, 0.85, 0.65, 0.45, 0.30),
)
# More light and cooking in winter: plus on 15 January, minus half a year later.
SEASON_KW = 0.05
SEASON_PEAK_S = 14 * DAY_S
FRIDGE_KW, FRIDGE_ON_S, FRIDGE_CYCLE_S = 0.09, 900.0, 2_400.0
# (height in kW, length in seconds); lengths that share no factor with a second, so that none is ever hidden.
RIPPLES = ((0.03, 7.3), (0.05, 83.7))


class Appliance(NamedTuple):
    """Something that runs once a day for `length_s`, beginning at a random time in a window of hours."""

    power_kw: float
    length_s: float
    from_hour: float
    to_hour: float


APPLIANCES = (
    Appliance(2.0, 150, 6.0, 8.5),
    Appliance(2.0, 150, 14.5, 17.0),
    Appliance(1.1, 600, 11.5, 13.5),
    Appliance(1.7, 2_400, 17.0, 19.5),
    Appliance(0.7, 4_500, 8.5, 13.0),
    Appliance(1.9, 900, 19.5, 22.0),
)


class Meter:
    """One meter.

    Args:
        seed: same seed, same readings.
        scale: how much of the day's profile it carries.
    """

    def __init__(self, seed: int, scale: float) -> None:
        self._seed = seed
        self._scale = scale
        self._fridge_shift_s = unit(seed, 0) * FRIDGE_CYCLE_S
        self._voltage_seed = seed_of(seed, "voltage")
        self._starts_of = lru_cache(maxsize=4)(self._plan_day)

    def power_kw(self, t_s: float) -> float:
        """Power drawn at `t_s`, in Unix seconds; always above zero."""
        since = t_s - EPOCH_S
        day, second = divmod(since, DAY_S)
        hour, share = int(second // HOUR_S), second % HOUR_S / HOUR_S
        smooth = (1 - share) * DAY_PROFILE_KW[hour] + share * DAY_PROFILE_KW[(hour + 1) % 24]
        smooth += SEASON_KW * math.cos(2 * math.pi * (since - SEASON_PEAK_S) / YEAR_S)
        noise = sum(height * ripple(self._seed, since, every) for height, every in RIPPLES)
        fridge = FRIDGE_KW if (since + self._fridge_shift_s) % FRIDGE_CYCLE_S < FRIDGE_ON_S else 0.0
        running = sum(
            appliance.power_kw
            for appliance, start in zip(APPLIANCES, self._starts_of(int(day)), strict=True)
            if start <= second < start + appliance.length_s
        )
        return self._scale * (smooth + noise + fridge + running)

    def energy_kwh(self, t_s: float) -> float:
        """The integral of the power from 2015 to `t_s`."""
        since = t_s - EPOCH_S
        day, second = divmod(since, DAY_S)
        kws = day * _PROFILE_KWS[24] + _profile_kws(second)
        turn = YEAR_S / (2 * math.pi)
        kws += SEASON_KW * turn * math.sin((since - SEASON_PEAK_S) / turn)
        kws += SEASON_KW * turn * math.sin(SEASON_PEAK_S / turn)
        kws += sum(height * ripple_integral(self._seed, since, every) for height, every in RIPPLES)
        shift = self._fridge_shift_s
        kws += _fridge_kws(since + shift) - _fridge_kws(shift)
        kws += day * _APPLIANCES_KWS
        kws += sum(
            appliance.power_kw * min(max(second - start, 0.0), appliance.length_s)
            for appliance, start in zip(APPLIANCES, self._starts_of(int(day)), strict=True)
        )
        return self._scale * kws / HOUR_S

    def values(self, t_s: float) -> dict[str, Any]:
        """The fields of a reading at `t_s`, as precise as a real meter shows them."""
        power_kw = self.power_kw(t_s)
        voltage = 230 + 3 * wander(self._voltage_seed, t_s, 600) + 0.8 * wander(self._voltage_seed, t_s, 1.7)
        return {
            "total_energy_kwh": round(self.energy_kwh(t_s), 5),
            "power_kw": round(power_kw, 3),
            "voltage": round(voltage, 1),
            "current": round(power_kw * 1000 / voltage, 2),
        }

    def _plan_day(self, day: int) -> tuple[float, ...]:
        first = day * len(APPLIANCES)
        return tuple(
            appliance.from_hour * HOUR_S
            + unit(self._seed, first + index)
            * ((appliance.to_hour - appliance.from_hour) * HOUR_S - appliance.length_s)
            for index, appliance in enumerate(APPLIANCES)
        )


def _plan_profile() -> tuple[float, ...]:
    sums = [0.0]
    for hour in range(24):
        mean_kw = (DAY_PROFILE_KW[hour] + DAY_PROFILE_KW[(hour + 1) % 24]) / 2
        sums.append(sums[-1] + mean_kw * HOUR_S)
    return tuple(sums)


# Kilowatt-seconds of the day's profile up to each full hour.
_PROFILE_KWS = _plan_profile()
_APPLIANCES_KWS = sum(appliance.power_kw * appliance.length_s for appliance in APPLIANCES)


def _profile_kws(second: float) -> float:
    hour, rest = int(second // HOUR_S), second % HOUR_S
    here, there = DAY_PROFILE_KW[hour], DAY_PROFILE_KW[(hour + 1) % 24]
    return _PROFILE_KWS[hour] + here * rest + (there - here) * rest * rest / (2 * HOUR_S)


def _fridge_kws(t_s: float) -> float:
    cycles, rest = divmod(t_s, FRIDGE_CYCLE_S)
    return FRIDGE_KW * (cycles * FRIDGE_ON_S + min(rest, FRIDGE_ON_S))
