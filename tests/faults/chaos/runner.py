"""Runs cells, some at a time, each worker on a site of its own, and hands out what came of them as they end."""

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.chaos.cell import Outcome, run_cell
from tests.faults.chaos.matrix import Cell
from tests.faults.chaos.site import open_site


def run_cells(cells: Sequence[Cell], seed: int, jobs: int, logs: Path) -> Iterator[Outcome]:
    """Runs cells and yields their outcomes as they end.

    Args:
        cells: which; begun in this order.
        seed: of all of them.
        jobs: how many at a time.
        logs: directory for what failed cells said.

    Raises:
        BaseException: what kept a worker from working, such as a server that cannot start.

    Guarantee: all servers and processes are gone when it ends, however it ends.
    """
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(waiting, done, seed, logs, stop), name=f"chaos-{number}")
        for number in range(min(jobs, len(cells)))
    ]
    for worker in workers:
        worker.start()
    try:
        for _ in cells:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _work(
    waiting: queue.SimpleQueue[Cell],
    done: queue.SimpleQueue[Outcome | BaseException],
    seed: int,
    logs: Path,
    stop: threading.Event,
) -> None:
    try:
        with open_site() as site:
            while not stop.is_set():
                done.put(run_cell(waiting.get_nowait(), seed, site, logs))
    except queue.Empty:
        return
    except BaseException as exc:  # noqa: BLE001 - raised in the thread that waits
        done.put(exc)
