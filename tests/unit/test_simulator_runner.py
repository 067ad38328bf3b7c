"""When devices publish, at which pace, and when it ends. No clock but the one handed in."""

import threading
from itertools import islice, pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.simulator.command import simulate
from hl_platform.simulator.home import SECOND_US, Device, home_devices, load_devices
from hl_platform.simulator.runner import Limits, Pace, run_plan
from hl_platform.simulator.schedule import plan_home, plan_load, repeat_when_heard

START_US = 1_767_456_000 * SECOND_US
starts = st.integers(START_US, START_US + 10**9)


class FakeTime:
    """A clock that only waiting moves."""

    def __init__(self, now_us: int = START_US) -> None:
        self.us = now_us
        self.waits_s: list[float] = []
        self.stopped = False

    def now_us(self) -> int:
        return self.us

    def wait(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.us += round(seconds * SECOND_US)
        return self.stopped

    def is_set(self) -> bool:
        return self.stopped


class Recorder:
    """A publisher that takes a number of messages and then says that it was stopped."""

    def __init__(self, room: int = 10**9) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._room = room

    def publish(self, mqtt_topic: str, payload: bytes) -> bool:
        if len(self.messages) >= self._room:
            return False
        self.messages.append((mqtt_topic, payload))
        return True


def run(
    *,
    limits: Limits,
    speed: float | None = None,
    publisher: Recorder | None = None,
    clock: FakeTime | None = None,
    start_us: int = START_US,
    on_reading: object = lambda _n, _us: None,
) -> tuple[int, Recorder, FakeTime]:
    clock, publisher = clock or FakeTime(), publisher or Recorder()
    pace = Pace(start_us, speed, clock.now_us, clock)  # type: ignore[arg-type] # waits without waiting
    plan = plan_home(home_devices(1), start_us)
    n = run_plan(plan, publisher, pace, limits, now_us=clock.now_us, on_reading=on_reading)  # type: ignore[arg-type]
    return n, publisher, clock


@given(starts)
def test_every_device_publishes_once_at_the_start(start_us: int) -> None:
    devices = home_devices(1)
    assert list(islice(plan_home(devices, start_us), len(devices))) == [
        (start_us, device) for device in devices
    ]


@given(starts)
def test_a_plan_is_in_order_of_time_and_keeps_every_interval(start_us: int) -> None:
    devices = home_devices(1)
    later = list(islice(plan_home(devices, start_us), 2_000))[len(devices) :]
    assert all(one[0] <= two[0] for one, two in pairwise(later))
    for device in devices:
        due = [due_us for due_us, other in later if other.device_id == device.device_id]
        assert start_us < due[0] <= start_us + device.interval_us
        assert all(two - one == device.interval_us for one, two in pairwise(due))


@given(starts, st.integers(1, 100))
def test_a_plan_that_starts_later_continues_on_the_same_moments(start_us: int, later_s: int) -> None:
    devices = home_devices(1)[:2]

    def moments(at_us: int) -> set[tuple[int, str]]:
        plan = islice(plan_home(devices, at_us), len(devices), 500)
        return {(due_us, device.device_id) for due_us, device in plan}

    one, two = moments(start_us), moments(start_us + later_s * SECOND_US)
    begin, end = min(two)[0], max(one)[0]
    assert {moment for moment in one if begin <= moment[0] < end} == {
        moment for moment in two if moment[0] < end
    }


@given(st.integers(1, 200), st.integers(1, 20_000), starts)
def test_a_load_has_its_rate_and_no_device_repeats_a_moment(n_devices: int, rate: int, start_us: int) -> None:
    devices = [Device("energy", f"x{i}", SECOND_US, lambda _: {}) for i in range(n_devices)]
    plan = list(islice(plan_load(devices, rate, start_us), rate + 1))
    assert plan[-1][0] - plan[0][0] == SECOND_US
    assert len({(due_us, device.device_id) for due_us, device in plan}) == rate + 1


def test_a_load_goes_around_its_devices() -> None:
    devices = load_devices(1, 3, ("energy",), "x")
    assert [device.device_id for _, device in islice(plan_load(devices, 10, 0), 4)] == [
        "x1",
        "x2",
        "x3",
        "x1",
    ]


def test_a_home_that_nobody_heard_speaks_again_once_somebody_listens() -> None:
    devices = home_devices(1)
    n_told = 0

    def counts() -> tuple[int, int]:
        # Nobody hears the first twelve.
        return (max(0, n_told - 12), min(12, n_told))

    told = []
    for moment in islice(repeat_when_heard(plan_home(devices, START_US), devices, counts), 40):
        n_told += 1
        told.append(moment)
    again = [index for index, (_, device) in enumerate(told) if device.device_id == "office"]
    assert again[0] == 7
    assert 12 < again[1] <= 21
    assert len({(due_us, device.device_id) for due_us, device in told}) == 40


def test_a_home_that_was_heard_at_once_does_not_repeat_itself() -> None:
    devices = home_devices(1)
    plan = list(islice(plan_home(devices, START_US), 40))
    assert list(islice(repeat_when_heard(plan, devices, lambda: (1, 0)), 41)) == plan


def test_the_home_publishes_as_time_passes() -> None:
    n, publisher, clock = run(limits=Limits(end_us=START_US + 10 * SECOND_US), speed=1.0)
    # Eight at the start, then nine and ten of the meters, and everything else once.
    assert n == len(publisher.messages) == 8 + 9 + 10 + 6
    assert 9 * SECOND_US <= clock.us - START_US <= 10 * SECOND_US


def test_time_can_run_faster() -> None:
    _, _, clock = run(limits=Limits(end_us=START_US + 600 * SECOND_US), speed=60.0)
    assert clock.us - START_US == pytest.approx(10 * SECOND_US, rel=0.01)


def test_what_is_late_goes_at_once_and_is_not_skipped() -> None:
    clock = FakeTime()
    pace = Pace(START_US, 1.0, clock.now_us, clock)  # type: ignore[arg-type] # waits without waiting
    clock.us += 60 * SECOND_US
    n = run_plan(
        plan_home(home_devices(1), START_US),
        Recorder(),
        pace,
        Limits(end_us=START_US + 60 * SECOND_US),
        now_us=clock.now_us,
        on_reading=lambda _n, _us: None,
    )
    assert n > 2 * 59
    assert clock.waits_s == []


def test_a_history_runs_to_the_present_without_waiting() -> None:
    clock = FakeTime(START_US + 3_600 * SECOND_US)
    n, _, _ = run(limits=Limits(until_now=True), clock=clock)
    assert n >= 2 * 3_600 + 120 + 5 * 12
    assert clock.waits_s == []


def test_a_count_is_kept_exactly() -> None:
    n, publisher, _ = run(limits=Limits(n_readings=100))
    assert n == len(publisher.messages) == 100


def test_a_publisher_that_was_stopped_ends_the_plan() -> None:
    n, publisher, _ = run(limits=Limits(), publisher=Recorder(room=5))
    assert n == len(publisher.messages) == 5


def test_a_stop_ends_the_plan_before_the_next_reading() -> None:
    clock = FakeTime()

    def stop_after_ten(n: int, _due_us: int) -> None:
        clock.stopped = n == 10

    n, publisher, _ = run(limits=Limits(), clock=clock, on_reading=stop_after_ten)
    assert n == len(publisher.messages) == 10


def test_a_stop_ends_a_wait() -> None:
    stop = threading.Event()
    stop.set()
    assert not Pace(0, 1.0, lambda: 0, stop).wait_until(3_600 * SECOND_US)


def test_the_same_seed_and_start_publish_the_same_bytes() -> None:
    (_, one, _), (_, two, _) = run(limits=Limits(n_readings=500)), run(limits=Limits(n_readings=500))
    assert one.messages == two.messages


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--speed", "2"], "--speed above 1 needs --start"),
        (["--start", "2999-01-01"], "is in the future"),
        (["--start", "2026-01-03T10:00:00"], "Write 2026-01-03T10:00:00Z for UTC"),
        (["--start", "yesterday"], "is not a time"),
        (["--streams", "energy,solar"], "'solar' is not one of energy, heatpump, temperature"),
        (["--streams", ","], "name at least one"),
        (["--rate", "0"], "not in the range"),
    ],
)
def test_a_wrong_option_is_answered_with_what_is_right(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(simulate, arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_without_an_address_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # No stack runs in an empty directory, whatever runs on this machine.
    monkeypatch.setenv("HL_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("HL_MQTT__HOST", raising=False)
    result = CliRunner().invoke(simulate, ["--count", "1"])
    assert result.exit_code == 2
    assert "Run `hl up`" in result.output
