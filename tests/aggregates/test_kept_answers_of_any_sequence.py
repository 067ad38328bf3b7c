"""Whatever happens between requests, or during them, answers from memory are right."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.aggregates.house import House
from tests.aggregates.kept_api import DAY, N_DAYS, Api, late

few = settings(
    max_examples=int(os.environ.get("EXAMPLES", "15")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
    print_blob=False,
)
MINUTES = st.integers(0, N_DAYS * 24 * 60 - 1)
WRITES = st.tuples(st.just("write"), st.sampled_from(["meter1", "meter2"]), MINUTES, st.floats(90, 400))
DELETES = st.tuples(st.just("delete"), st.sampled_from(["meter1", "meter2"]), MINUTES)
REFRESHES = st.tuples(
    st.just("refresh"), st.sampled_from(["energy_hourly", "energy_daily"]), st.integers(1, 60)
)
ASKS = st.tuples(
    st.just("ask"),
    MINUTES,
    st.integers(1, N_DAYS * 24 * 60),
    st.lists(st.sampled_from(["meter1", "meter2", "meter3"]), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([None, 125, 150]),
)


def happens(api: Api, what: tuple[Any, ...]) -> list[str]:
    """Lets one thing happen; returns what an answer says otherwise than it should."""
    match what:
        case "write", device, minute, kwh:
            late(api.house, DAY + timedelta(minutes=minute), kwh, device)
        case "delete", device, minute:
            query = "delete from energy_readings where device_id = %s and timestamp >= %s and timestamp < %s"
            at = DAY + timedelta(minutes=minute)
            api.house.execute(query, device, at, at + timedelta(hours=3))
        case "refresh", model, limit:
            api.house.refresh(model, limit)
        case "ask", minute, length, devices, fill, limit:
            start = DAY + timedelta(minutes=minute)
            asked = {"start": start.isoformat(), "end": (start + timedelta(minutes=length)).isoformat()}
            asked |= {"device_id": devices, "fill": json.dumps(fill)}
            days = (DAY - timedelta(days=60)).isoformat()
            return api.differences(**asked, **({"limit": limit} if limit else {})) + api.differences(
                "daily", start=days, device_id=devices, fill=json.dumps(fill)
            )
    return []


def test_answers_from_memory_are_right_whatever_happens(api: Api) -> None:
    @seed(1)
    @few
    @given(things=st.lists(st.one_of(WRITES, DELETES, REFRESHES, ASKS, ASKS), max_size=25))
    def check(things: list[tuple[Any, ...]]) -> None:
        for what in things:
            assert happens(api, what) == []
        assert api.differences(device_id=["meter1", "meter2"]) == []

    check()
    assert api.parts.n_found > 0


@contextmanager
def busy(house: House) -> Iterator[None]:
    """Somebody writes and refreshes all the time."""
    over = threading.Event()

    def work() -> None:
        random = Random(1)
        with closing(House(house.url, house.streams, house.timezone)) as other:
            while not over.is_set():
                late(
                    other, DAY + timedelta(minutes=random.randrange(N_DAYS * 1440)), random.uniform(100, 400)
                )
                other.refresh("energy_hourly")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_what_was_kept_while_others_wrote_is_right_afterwards(api: Api) -> None:
    with busy(api.house):
        for _ in range(60):
            api.ask(device_id="meter1").raise_for_status()
    assert api.differences() == []
    api.house.drain()
    assert api.differences() == []
