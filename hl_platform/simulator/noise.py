"""Randomness that depends on nothing but a seed and a time, so that any moment can be asked for at once."""

import math
from hashlib import blake2b

_MASK = 2**64 - 1


def seed_of(*parts: object) -> int:
    """A 64-bit seed from anything with a stable text, such as a number and a device's name."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def unit(seed: int, index: int) -> float:
    """A number in [0, 1) that looks random and is always the same for the same seed and index.

    Source: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
    """
    z = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53


def wander(seed: int, t_s: float, every_s: float) -> float:
    """A continuous line between -1 and 1 that bends at a random height every so many seconds."""
    index = math.floor(t_s / every_s)
    share = t_s / every_s - index
    return (1 - share) * _signed(seed, index) + share * _signed(seed, index + 1)


def ripple(seed: int, t_s: float, every_s: float) -> float:
    """One sine wave of random height, at most 1, in every window of so many seconds; zero between windows."""
    index = math.floor(t_s / every_s)
    return _signed(seed, index) * math.sin(2 * math.pi * (t_s / every_s - index))


def ripple_integral(seed: int, t_s: float, every_s: float) -> float:
    """The integral of `ripple` from any window's border to `t_s`: whole windows add up to nothing."""
    index = math.floor(t_s / every_s)
    turn = 2 * math.pi * (t_s / every_s - index)
    return _signed(seed, index) * (1 - math.cos(turn)) * every_s / (2 * math.pi)


def _signed(seed: int, index: int) -> float:
    return 2 * unit(seed, index) - 1
