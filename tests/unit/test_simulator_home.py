"""The simulated home: plausible, repeatable, and every counter the integral of its power."""

import json
import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl_platform.core.readings import ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.simulator.climate import HYSTERESIS_K, HeatPump, Weather
from hl_platform.simulator.home import ROOMS, SECOND_US, Device, encode_reading, home_devices, load_devices
from hl_platform.simulator.meter import DAY_S, EPOCH_S, HOUR_S, Meter
from hl_platform.simulator.noise import ripple, ripple_integral, seed_of, unit, wander
from hl_platform.streams import load_streams

JANUARY_S = datetime(2026, 1, 3, 16, tzinfo=UTC).timestamp()
JULY_S = datetime(2026, 7, 3, 16, tzinfo=UTC).timestamp()
PINNED = (
    b'{"timestamp":"2026-01-03T16:00:00Z","total_energy_kwh":81668.92254,"power_kw":0.806,'
    b'"voltage":228.3,"current":3.53}'
)
moments = st.floats(EPOCH_S, EPOCH_S + 30 * 365 * DAY_S)
seeds = st.integers(0, 2**32)
DECODERS = {
    name: ReadingDecoder(stream, ReadingSettings(max_ahead_s=31_536_000))
    for name, stream in load_streams().items()
}


def device_of(name: str, seed: int = 1) -> Device:
    return {device.device_id: device for device in home_devices(seed)}[name]


def test_the_home_has_two_meters_a_heat_pump_and_five_rooms() -> None:
    assert [(device.mqtt_topic, device.interval_us // SECOND_US) for device in home_devices(1)] == [
        ("homelab/energy/meter1", 1),
        ("homelab/energy/meter2", 1),
        ("homelab/heatpump/heatpump1", 30),
        *((f"homelab/temperature/{room}", 300) for room in ROOMS),
    ]
    assert len(ROOMS) == 5


@given(seeds, st.integers(int(EPOCH_S), int(JULY_S)).map(lambda s: s * SECOND_US), st.integers(0, 999_999))
def test_every_reading_is_valid_for_its_stream(seed: int, second_us: int, micros: int) -> None:
    t_us = second_us + micros
    for device in home_devices(seed):
        source = Source(device.mqtt_topic, qos=1, retained=False, bridge="bridge")
        now = datetime.fromtimestamp(JULY_S, UTC)
        key, record = DECODERS[device.stream].encode_record(encode_reading(device, t_us), now, source)
        reading = DECODERS[device.stream].decode_record(record, key, now)
        assert reading.device_id == device.device_id
        assert reading.timestamp.timestamp() * SECOND_US == pytest.approx(t_us, abs=1)
        assert reading.extra is None
        assert None not in reading.values


def test_the_same_seed_and_moment_are_the_same_bytes() -> None:
    once, again = ([encode_reading(device, 10**15) for device in home_devices(7)] for _ in range(2))
    assert once == again


def test_the_bytes_are_those_of_yesterdays_version() -> None:
    # Fails when the model changes: histories made before and after would then contradict each other.
    assert encode_reading(device_of("meter1"), int(JANUARY_S) * SECOND_US) == PINNED


def test_another_seed_is_another_home() -> None:
    for one, two in zip(home_devices(1), home_devices(2), strict=True):
        assert encode_reading(one, 10**15) != encode_reading(two, 10**15)


def test_two_meters_of_a_home_differ() -> None:
    assert (
        device_of("meter1").values(JANUARY_S)["power_kw"] != device_of("meter2").values(JANUARY_S)["power_kw"]
    )


@settings(max_examples=30)
@given(seeds, moments, st.floats(1, 2 * HOUR_S))
def test_the_counter_is_the_integral_of_the_power(seed: int, t_s: float, length_s: float) -> None:
    meter = Meter(seed, 1.0)
    n = math.ceil(length_s)
    step = length_s / n
    moved = sum(meter.power_kw(t_s + (i + 0.5) * step) for i in range(n)) * step / HOUR_S
    # An appliance that switches within a step is counted for all of it or not at all.
    allowed = 20 * 2.0 * step / HOUR_S
    assert meter.energy_kwh(t_s + length_s) - meter.energy_kwh(t_s) == pytest.approx(moved, abs=allowed)


@given(seeds, moments, st.floats(0.001, 10 * DAY_S))
def test_the_counter_never_falls(seed: int, t_s: float, later_s: float) -> None:
    values = Meter(seed, 1.0).values
    assert values(t_s + later_s)["total_energy_kwh"] >= values(t_s)["total_energy_kwh"]


@given(seeds, st.integers(0, 3_000))
def test_the_counter_does_not_jump_at_midnight(seed: int, day: int) -> None:
    meter, midnight = Meter(seed, 1.0), EPOCH_S + day * DAY_S
    assert meter.energy_kwh(midnight) - meter.energy_kwh(midnight - 0.001) == pytest.approx(0, abs=1e-5)


def test_every_counter_began_at_nothing() -> None:
    assert Meter(5, 1.0).energy_kwh(EPOCH_S) == pytest.approx(0, abs=1e-9)


@given(seeds, moments)
def test_the_power_stays_within_what_a_household_draws(seed: int, t_s: float) -> None:
    assert 0 < Meter(seed, 1.0).power_kw(t_s) < 12


def test_the_evening_takes_more_than_the_night() -> None:
    meter, day = Meter(5, 1.0), EPOCH_S + 4_000 * DAY_S
    night = meter.energy_kwh(day + 5 * HOUR_S) - meter.energy_kwh(day + 1 * HOUR_S)
    evening = meter.energy_kwh(day + 21 * HOUR_S) - meter.energy_kwh(day + 17 * HOUR_S)
    assert evening > 2 * night


def test_the_current_carries_the_power() -> None:
    values = device_of("meter1").values(JANUARY_S)
    assert values["voltage"] * values["current"] / 1000 == pytest.approx(values["power_kw"], rel=0.02)


def on_share(from_s: float) -> float:
    pump = device_of("heatpump1")
    states = [pump.values(from_s + step * 30)["compressor_running"] for step in range(2_880)]
    return sum(states) / len(states)


def test_the_heat_pump_runs_more_in_winter_than_in_summer() -> None:
    assert on_share(JANUARY_S) > 2 * on_share(JULY_S)


def test_the_heat_pump_cycles_through_a_winters_day() -> None:
    pump = device_of("heatpump1")
    states = [pump.values(JANUARY_S + step * 30)["compressor_running"] for step in range(2_880)]
    starts = sum(not before and after for before, after in pairwise(states))
    assert 30 <= starts <= 37


@given(seeds, moments)
def test_the_water_stays_between_the_switching_points(seed: int, t_s: float) -> None:
    values = HeatPump(seed, Weather(seed)).values(t_s)
    assert abs(values["actual_temp"] - values["target_temp"]) <= HYSTERESIS_K + 0.3


def test_heating_warms_and_a_pause_cools() -> None:
    pump = device_of("heatpump1")
    rises = {True: 0.0, False: 0.0}
    for before, after in pairwise(pump.values(JANUARY_S + step * 120) for step in range(720)):
        same = before["compressor_running"] is after["compressor_running"]
        if before["mode"] == after["mode"] == "heating" and same:
            rises[before["compressor_running"]] += after["actual_temp"] - before["actual_temp"]
    assert rises[True] > 20
    assert rises[False] < -20


@given(moments)
def test_a_compressor_that_stands_draws_next_to_nothing(t_s: float) -> None:
    values = device_of("heatpump1").values(t_s)
    assert (values["power_consumption_kw"] > 0.1) is values["compressor_running"]


@given(seeds, moments)
def test_rooms_are_habitable(seed: int, t_s: float) -> None:
    for device in home_devices(seed)[3:]:
        values = device.values(t_s)
        assert 14 < values["temperature"] < 28
        assert 15 <= values["humidity"] <= 95


def test_a_room_names_its_sensor_and_itself() -> None:
    payload = json.loads(encode_reading(device_of("kitchen"), int(JANUARY_S) * SECOND_US))
    assert (payload["sensor_id"], payload["room"]) == ("kitchen", "kitchen")
    assert payload["timestamp"] == "2026-01-03T16:00:00Z"


def test_a_load_is_spread_evenly_over_streams() -> None:
    devices = load_devices(1, 12, ("energy", "temperature"), "x-")
    assert [device.stream for device in devices] == ["energy", "temperature"] * 6
    assert devices[0].device_id == "x-01"
    assert len({device.device_id for device in devices}) == 12


@given(seeds, st.integers(0, 2**40))
def test_a_random_number_is_in_its_range_and_stays_the_same(seed: int, index: int) -> None:
    assert 0 <= unit(seed, index) < 1
    assert unit(seed, index) == unit(seed, index)


def test_random_numbers_are_spread_evenly() -> None:
    values = [unit(seed_of("even"), index) for index in range(4_000)]
    assert all(
        900 < sum(low <= value < low + 0.25 for value in values) < 1_100 for low in (0, 0.25, 0.5, 0.75)
    )


@given(seeds, st.floats(0, 1e9), st.floats(1, 1e5))
def test_a_wandering_line_is_bounded_and_has_no_jumps(seed: int, t_s: float, every_s: float) -> None:
    assert -1 <= wander(seed, t_s, every_s) <= 1
    step = every_s / 1_000
    assert abs(wander(seed, t_s + step, every_s) - wander(seed, t_s, every_s)) < 0.01


@given(seeds, st.integers(0, 10**6), st.floats(1, 1e3))
def test_a_ripple_adds_up_to_nothing(seed: int, window: int, every_s: float) -> None:
    end = (window + 1) * every_s
    assert ripple_integral(seed, end, every_s) == pytest.approx(0, abs=1e-3)
    assert ripple(seed, end, every_s) == pytest.approx(0, abs=1e-6)
