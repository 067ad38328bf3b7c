"""Blocking work of requests takes turns."""

import asyncio
import threading

import pytest

from hl_live import threads
from hl_live.threads import MAX_AT_ONCE, BoundedThreads
from hl_platform.core.errors import BackpressureError


def test_all_get_their_turn_and_few_work_at_once() -> None:
    at_work: set[int] = set()
    most: list[int] = []
    together = threading.Barrier(MAX_AT_ONCE)

    def work() -> int:
        at_work.add(threading.get_ident())
        together.wait(10)
        most.append(len(at_work))
        together.wait(10)
        at_work.discard(threading.get_ident())
        return 1

    async def run() -> list[int]:
        bounded = BoundedThreads()
        return await asyncio.gather(*(bounded.run(work) for _ in range(5 * MAX_AT_ONCE)))

    assert sum(asyncio.run(run())) == 5 * MAX_AT_ONCE
    assert max(most) == MAX_AT_ONCE


def test_a_client_that_leaves_gives_no_room_before_its_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TURN_WAIT_S", 0.05)
    end = threading.Event()

    async def run() -> bool:
        bounded = BoundedThreads()
        left = [asyncio.create_task(bounded.run(lambda: end.wait(10))) for _ in range(MAX_AT_ONCE)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        with pytest.raises(BackpressureError):
            await bounded.run(lambda: True)
        end.set()
        monkeypatch.setattr(threads, "TURN_WAIT_S", 10)
        return await bounded.run(lambda: True)

    assert asyncio.run(run())


def test_work_that_fails_gives_its_place_back() -> None:
    async def run() -> int:
        bounded = BoundedThreads()
        for _ in range(2 * MAX_AT_ONCE):
            with pytest.raises(ZeroDivisionError):
                await bounded.run(lambda: 1 // 0)
        return await bounded.run(lambda: 1)

    assert asyncio.run(run()) == 1
