"""Whatever is sent, refreshed, dropped and absorbed, in any order: the views say what all readings ever sent say."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.retention.conftest import Pair
from tests.retention.home import DAY, STREAM, House, Keeper, assert_same, meter

Make = Callable[..., AbstractContextManager[Pair]]

N_DAYS = 6
# Minutes from the first day on. Coarse, so that the same key comes twice now and then; in bunches, so that there are
# both steps within an hour and steps over days.
MINUTES = st.one_of(
    st.integers(0, N_DAYS * 24 * 3).map(lambda n: n * 20),
    st.integers(0, 12).map(lambda n: 2 * 1440 - 60 + n * 10),
)
SENT = st.lists(st.tuples(st.sampled_from(["a", "b"]), MINUTES, st.integers(0, 9)), min_size=1, max_size=12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SENT),
        st.tuples(st.just("refresh"), st.sampled_from([7, 1000])),
        st.tuples(st.just("drop"), st.integers(1, N_DAYS)),
        st.tuples(st.just("absorb"), st.sampled_from([1, 64])),
        st.tuples(st.just("forget hours"), st.none()),
    ),
    min_size=4,
    max_size=12,
)


def apply(house: House, oracle: Keeper, step: str, value: Any, number: int) -> None:  # noqa: ANN401
    if step == "send":
        readings = [
            meter(DAY + timedelta(minutes=at), at / 40 + noise / 100, device=device, sent=number * 100 + n)
            for n, (device, at, noise) in enumerate(value)
        ]
        for keeper in (house, oracle):
            keeper.ingest(readings, partitions=number % 3 > 0)
    elif step == "refresh":
        for model in house.models:
            house.refresher.refresh(model, limit=value)
    elif step == "drop":
        house.drop_before(DAY + timedelta(days=value))
    elif step == "absorb":
        house.absorber.absorb(STREAM, value)
    else:
        house.model_retention.run(house.project.models["meter_hourly"])


def check(pairs: Make, zone: str, steps: list[tuple[str, Any]]) -> None:
    with pairs(zone, hours="1 days") as (house, oracle):
        for number, (step, value) in enumerate([("send", [("a", 30, 1), ("b", 4000, 1)]), *steps]):
            apply(house, oracle, step, value, number)
        house.absorb()
        floor = house.query("select max(floor) from hl.floors where table_name = 'meter_hourly'")[0][0]
        assert_same(house, oracle, hours_since=floor)
        assert house.query("select count(*) from hl.dirty") == [(0,)]


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(zone=st.sampled_from(["UTC", "Asia/Kolkata"]), steps=STEPS)
def test_views_say_what_all_readings_ever_sent_say(
    pairs: Make, zone: str, steps: list[tuple[str, Any]]
) -> None:
    check(pairs, zone, steps)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]), steps=STEPS)
def test_views_say_so_for_many_more_sequences(pairs: Make, zone: str, steps: list[tuple[str, Any]]) -> None:
    check(pairs, zone, steps)
