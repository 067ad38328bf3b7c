"""Back-off: waits grow, stay bounded, differ and start over."""

import random

from hl_platform.core.backoff import Backoff


def backoff_of(seed: int) -> Backoff:
    return Backoff(random.Random(seed), first_s=0.2, max_s=5.0)


def waits(n: int, seed: int = 1) -> list[float]:
    backoff = backoff_of(seed)
    return [backoff.next_s() for _ in range(n)]


def test_the_bound_of_a_wait_doubles_up_to_the_maximum() -> None:
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    for wait_s, bound_s in zip(waits(len(bounds)), bounds, strict=True):
        assert bound_s / 10 <= wait_s <= bound_s


def test_a_long_outage_does_not_overflow() -> None:
    assert all(wait_s <= 5.0 for wait_s in waits(10_000))


def test_two_waiters_do_not_return_together() -> None:
    assert waits(5, seed=1) != waits(5, seed=2)


def test_the_same_randomness_gives_the_same_waits() -> None:
    assert waits(5) == waits(5)


def test_a_success_starts_over_with_a_short_wait() -> None:
    backoff = backoff_of(1)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.2
