"""Exponential back-off with full jitter."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Seconds to wait between tries, growing and jittered so that many waiters do not return together.

    Args:
        first_s: upper bound of the first wait, in seconds.
        max_s: upper bound of every wait, in seconds.
        rng: source of randomness.

    Source: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), variant "full jitter".
    """

    rng: random.Random
    first_s: float = 0.2
    max_s: float = 5.0
    n_tries: int = 0

    def next_s(self) -> float:
        """The next wait in seconds, between a tenth of the bound and the bound."""
        bound = min(self.max_s, self.first_s * 2.0**self.n_tries)
        # Past this the bound no longer grows; without it the power would overflow in a long outage.
        self.n_tries = min(self.n_tries + 1, 32)
        return self.rng.uniform(bound / 10, bound)

    def reset(self) -> None:
        """Call after a success: the next outage starts with a short wait again."""
        self.n_tries = 0
