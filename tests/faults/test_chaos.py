"""A small set of the fault matrix: every process, every line and every fault, where a mistake would cost most."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.chaos.cell import run_cell
from tests.faults.chaos.matrix import FAULTS, LINES, PROCESSES, SMALL, STEPS, plan_cells
from tests.faults.chaos.site import Site, open_site

CELLS = {cell.name: cell for cell in plan_cells()}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_lost_repeated_or_reordered(site: Site, tmp_path: Path, name: str) -> None:
    outcome = run_cell(CELLS[name], 1, site, tmp_path)
    said = Path(outcome.log).read_text() if outcome.log else ""
    assert outcome.passed, f"{outcome.injected or 'nothing injected'}: {outcome.faults}\n{said[-8_000:]}"


def test_small_set_has_every_process_line_and_fault() -> None:
    small = [CELLS[name] for name in SMALL]
    victims = {name for stage in STEPS for name in (*PROCESSES[stage], *LINES[stage])}
    assert ({cell.victim for cell in small}, {cell.fault for cell in small}) == (victims, set(FAULTS))
