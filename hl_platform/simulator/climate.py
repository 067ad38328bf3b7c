"""The weather outside, the heat pump that answers it, and the rooms."""

import math
from typing import Any, NamedTuple

from hl_platform.simulator.noise import seed_of, wander

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S
# 36 cycles make a day, so that a cycle never reaches into the next one.
CYCLE_S = 2_400.0
# Cycles of the day that heat the tap water: from 04:40 and from 16:40 UTC.
HOT_WATER_CYCLES = (7, 25)
HOT_WATER_C, HOT_WATER_DUTY = 50.0, 0.8
# The controller switches this far below and above its target, in kelvin.
HYSTERESIS_K = 2.0
HEATING_BELOW_C, COOLING_ABOVE_C = 17.0, 25.0
COOLING_TARGET_C = 18.0
# Below this the outdoor unit ices over and is thawed after each run.
DEFROST_BELOW_C, DEFROST_S = 2.0, 240.0
STANDBY_KW = 0.012
# What a real heat pump reaches of Carnot's coefficient of performance, and the least difference that counts.
QUALITY, LEAST_LIFT_K, ZERO_C_IN_K = 0.42, 15.0, 273.15


class Weather:
    """Outdoor temperature: a year, a day, and weather that changes from day to day."""

    def __init__(self, seed: int) -> None:
        self._seed = seed_of(seed, "weather")

    def outdoor_c(self, t_s: float) -> float:
        """Degrees Celsius at `t_s`, in Unix seconds."""
        # Coldest on about 20 January, warmest at 15:00 UTC.
        year = -9.5 * math.cos(2 * math.pi * (t_s - 19 * DAY_S) / YEAR_S)
        day = 3.5 * math.cos(2 * math.pi * (t_s - 15 * 3_600) / DAY_S)
        return 10 + year + day + 4 * wander(self._seed, t_s, 1.7 * DAY_S)


class _Plan(NamedTuple):
    """What the heat pump does in one cycle."""

    mode: str
    target_c: float
    duty: float
    direction: float
    defrosts: bool = False


class HeatPump:
    """A heat pump that switches between two temperatures around its target.

    It runs for a share of each cycle that grows with the cold (or the heat) outside. Within a cycle the water
    warms from the lower switching point to the upper one and falls back, so temperature and compressor are
    those of a controller with hysteresis, and yet any moment can be asked for without its past.
    """

    def __init__(self, seed: int, weather: Weather) -> None:
        self._seed = seed
        self._weather = weather

    def values(self, t_s: float) -> dict[str, Any]:
        """The fields of a reading at `t_s`, in Unix seconds."""
        cycle = math.floor(t_s / CYCLE_S)
        second = t_s - cycle * CYCLE_S
        plan = self._plan(cycle)
        on_s = plan.duty * CYCLE_S
        running = second < on_s
        mode = plan.mode
        power_kw, heat_kw = STANDBY_KW, 0.0
        if running:
            lift_k = abs(plan.target_c - self._weather.outdoor_c(t_s))
            power_kw = 0.6 + 0.035 * lift_k + 0.05 * wander(self._seed, t_s, 45)
            heat_kw = power_kw * QUALITY * (plan.target_c + ZERO_C_IN_K) / max(lift_k, LEAST_LIFT_K)
        elif plan.defrosts and second < on_s + DEFROST_S:
            mode, running, power_kw = "defrost", True, 1.0
        swing = second / on_s if second < on_s else (CYCLE_S - second) / (CYCLE_S - on_s)
        actual_c = plan.target_c + plan.direction * HYSTERESIS_K * (2 * swing - 1)
        return {
            "mode": mode,
            "target_temp": round(plan.target_c, 1),
            "actual_temp": round(actual_c + 0.1 * wander(self._seed, t_s, 60), 1),
            "compressor_running": running,
            "power_consumption_kw": round(power_kw, 3),
            "heat_output_kw": round(heat_kw, 2),
        }

    def _plan(self, cycle: int) -> _Plan:
        # Decided by the temperature at its beginning: a controller looks, then runs.
        outdoor_c = self._weather.outdoor_c(cycle * CYCLE_S)
        freezing = outdoor_c < DEFROST_BELOW_C
        if cycle % (DAY_S // CYCLE_S) in HOT_WATER_CYCLES:
            return _Plan("hot_water", HOT_WATER_C, HOT_WATER_DUTY, 1, freezing)
        if outdoor_c < HEATING_BELOW_C:
            duty = min(max((20 - outdoor_c) / 32, 0.15), 0.9)
            # The heating curve: the colder, the warmer the water.
            return _Plan("heating", 28 + 0.6 * (20 - outdoor_c), duty, 1, freezing)
        if outdoor_c > COOLING_ABOVE_C:
            return _Plan("cooling", COOLING_TARGET_C, min(max((outdoor_c - 22) / 16, 0.15), 0.9), -1)
        return _Plan("off", 22.0, 0.0, 0)


class Room:
    """A room's air.

    Args:
        seed: same seed, same readings.
        weather: what it is like outside.
        name: which room.
        comfort_c: the temperature its people like.
        humidity: relative humidity in percent at that temperature.
    """

    def __init__(self, seed: int, weather: Weather, name: str, comfort_c: float, humidity: float) -> None:
        self._seed = seed
        self._humidity_seed = seed_of(seed, "humidity")
        self._weather = weather
        self._name = name
        self._comfort_c = comfort_c
        self._humidity = humidity

    def values(self, t_s: float) -> dict[str, Any]:
        """The fields of a reading at `t_s`, in Unix seconds."""
        outside = 0.03 * (self._weather.outdoor_c(t_s) - 10)
        day = 0.6 * math.cos(2 * math.pi * (t_s - 17 * 3_600) / DAY_S)
        drift_k = outside + day + 0.5 * wander(self._seed, t_s, 5_400) + 0.1 * wander(self._seed, t_s, 240)
        # Warmer air holds more, so the same water is a smaller share.
        humidity = self._humidity - 2 * drift_k + 4 * wander(self._humidity_seed, t_s, 7_200)
        return {
            "room": self._name,
            "temperature": round(self._comfort_c + drift_k, 2),
            "humidity": round(min(max(humidity, 15), 95), 1),
        }
