"""A service that has ended holds no connection, whoever still holds its objects."""

from collections.abc import Callable

import psutil
import pytest

from tests.home import Home, eventually, reading, record

TIMES = 3


pytestmark = pytest.mark.usefixtures("no_garbage_is_collected")


def run_bridge(home: Home) -> None:
    with home.running("bridge"):
        n_before = len(home.records(home.energy.kafka_topic))
        home.publish((home.topic("meter1"), reading()))
        eventually(lambda: len(home.records(home.energy.kafka_topic)), lambda n: n > n_before)


def run_sink(home: Home) -> None:
    with home.running("sink"):
        n_before = home.n_rows()
        home.produce(record("meter1"))
        eventually(home.n_rows, lambda n: n > n_before)


@pytest.mark.parametrize("run", [run_bridge, run_sink])
def test_services_that_have_ended_hold_no_connections(home: Home, run: Callable[[Home], None]) -> None:
    process = psutil.Process()
    # The first opens what libraries keep for good.
    run(home)
    n_before = process.num_fds()
    for _ in range(TIMES):
        run(home)
    eventually(process.num_fds, lambda n: n <= n_before)
