"""Finds the few of many that are rejected, in few tries."""

from collections.abc import Callable
from typing import TypeVar

Fault = TypeVar("Fault")


def find_rejected(n: int, attempt: Callable[[int, int], Fault | None]) -> list[tuple[int, Fault]]:
    """Which of `n` are rejected, and why.

    Args:
        n: how many there are.
        attempt: tries those from `start` to before `end`. Returns None and keeps them if all are accepted, else
            keeps none and returns why not.

    Returns:
        Index and fault of each that is rejected given those accepted before it, in order.

    Guarantee: k of n cost at most (k + 1) * (log2(n) + 3) tries, and hardly more than one each where nearly all
    are bad; every other one is kept.
    """
    rejected: list[tuple[int, Fault]] = []
    start, window = 0, n
    while start < n:
        end = min(start + window, n)
        fault = attempt(start, end)
        if fault is None:
            # The window follows how dense the bad ones are: a good one doubles it, a bad one halves it.
            start, window = end, window * 2
        else:
            bad = _first_rejected(start, end, fault, attempt)
            rejected.append(bad)
            start, window = bad[0] + 1, max(window // 2, 1)
    return rejected


def _first_rejected(
    start: int, end: int, fault: Fault, attempt: Callable[[int, int], Fault | None]
) -> tuple[int, Fault]:
    """The first bad one from `start` to before `end`, of which `fault` is known; all before it are kept."""
    while end - start > 1:
        middle = (start + end) // 2
        found = attempt(start, middle)
        if found is None:
            start = middle
        else:
            end, fault = middle, found
    return start, fault
