"""How much to refresh at a time, and how long to wait in between, so that nobody waits long for us. Pure."""

from typing import NamedTuple

# A writer that wants to mark a bucket which is being refreshed waits until the end of that transaction.
TARGET_MS = 250.0
FIRST_MARKS = 50
MAX_MARKS = 2_000
# What a trivial statement takes on a database that has nothing to do; a small box over loopback: under 1 ms.
EASY_MS = 10.0
MAX_PAUSE_S = 5.0


class Chunk(NamedTuple):
    """What to do next.

    Args:
        limit: marks to take.
        pause_s: how long to wait before.
    """

    limit: int
    pause_s: float


def plan_chunk(last_n: int = 0, last_ms: float = 0.0, probe_ms: float = 0.0) -> Chunk:
    """The next chunk, after what the last one took and what the database answers like.

    Args:
        last_n: marks of the last chunk; 0: there was none.
        last_ms: how long its transaction took.
        probe_ms: how long a trivial statement takes now.

    Returns:
        As many marks as should take 250 ms, at most twice and at least a quarter of the last time; a database that
        answers slowly gets a quarter of them at most and a pause as long as our work times its slowness.
    """
    if last_n == 0:
        return Chunk(FIRST_MARKS, 0.0)
    wanted = last_n * TARGET_MS / max(last_ms, 1.0)
    strained = probe_ms / EASY_MS
    most = last_n / 4 if strained > 1 else last_n * 2
    limit = max(1, min(MAX_MARKS, round(max(min(wanted, most), last_n / 4))))
    pause_s = min(MAX_PAUSE_S, last_ms / 1000 * strained) if strained > 1 else 0.0
    return Chunk(limit, pause_s)
