"""A frame of `hl top`, apart from servers."""

from io import StringIO

import pytest
from rich.console import Console

from dbt_like_sql.engine.marks import Backlog
from hl_platform.adapters.postgres.silent_devices import SilentDevice
from hl_platform.adapters.postgres.status import Delay, PipelineStatus, StageTotals
from hl_platform.core.lag import PartitionLag
from hl_platform.stack.top_frame import frame, rates
from hl_platform.stack.top_read import Snapshot


def totals(received: int, name: str = "bridge") -> StageTotals:
    return StageTotals(name, received, received, 0, 0, 0, 0, 0)


def snapshot(at_s: float, received: int, **more: object) -> Snapshot:
    pipeline = PipelineStatus([], [totals(received)], {"device_to_row": Delay(5.0, 900.0, 950.0)}, {})
    return Snapshot(at_s, [], pipeline, [], [], [], [])._replace(**more)


def text_of(now: Snapshot, before: Snapshot) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(frame(now, before))
    shown = console.file
    assert isinstance(shown, StringIO)
    return shown.getvalue()


def test_rates_are_per_second_and_never_below_none():
    assert rates([totals(30)], [totals(10)], 2.0)["bridge"]["received"] == 10.0
    # A successor took back what was in flight.
    assert rates([totals(5)], [totals(10)], 1.0)["bridge"]["received"] == 0.0


@pytest.mark.parametrize("before", [[], [totals(1, "sink")]])
def test_rate_of_a_stage_that_is_new_is_not_told(before: list[StageTotals]):
    assert rates([totals(30)], before, 1.0) == {}


def test_first_frame_tells_no_rates():
    first = snapshot(1.0, 10)
    assert "bridge" in text_of(first, first)


def test_frame_shows_all_that_is_worth_a_look():
    now = snapshot(
        3.0,
        2_010,
        lag=[PartitionLag("timescaledb-energy", "t", 0, 0, 1_234)],
        backlog=[Backlog("energy_hourly", "", 7, 60.0, None), Backlog("energy_daily", "", 0, None, None)],
        silent=[SilentDevice("energy", f"meter{n}", 3_600.0 * n) for n in range(2, 12)],
        problems=["Kafka does not tell: away"],
    )
    shown = text_of(now, snapshot(1.0, 10))
    for expected in ("1,000.0", "900.0", "800", "1,234", "energy_hourly", "Kafka does not tell: away"):
        assert expected in shown
    assert "Silent, 10: energy meter2 2.0 h" in shown
    assert "and 2 more" in shown
    assert "energy_daily" not in shown
