"""How many requests a client may make: a bucket of tokens that refills evenly (GCRA), in bounded memory.

A client is its token, or its address where nobody is asked for tokens. The headers are those of the IETF's draft
(draft-ietf-httpapi-ratelimit-headers): `RateLimit-Policy` tells what is allowed, `RateLimit` what is left of it.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

WINDOW_S = 60
# Clients that are remembered; at most a few hundred kB. Who is forgotten has all of his requests again.
MAX_CLIENTS = 4_096


class Quota(NamedTuple):
    """What is left to a client.

    Args:
        allowed: whether this request is within it.
        remaining: requests that it may make at once.
        reset_s: seconds until it may make all of them again.
        retry_after_s: seconds until it may make one; 0 if it may now.
    """

    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float


class Rates:
    """Requests by client.

    Args:
        per_minute: how many a client may make in a minute, and at once.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._each_s = WINDOW_S / per_minute
        # By client, the time at which it has all of its requests again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, now: float) -> Quota:
        """Counts a request, unless it is one too many.

        Args:
            client: its token or its address.
            now: monotonic seconds.
        """
        full_at = max(self._full_at.get(client, now), now)
        ahead_s = full_at - now + self._each_s
        over_s = ahead_s - WINDOW_S
        # Sums of fractions are not exact; one request more or less is no matter.
        if over_s > self._each_s / 2:
            return Quota(allowed=False, remaining=0, reset_s=full_at - now, retry_after_s=over_s)
        self._full_at[client] = now + ahead_s
        self._full_at.move_to_end(client)
        if len(self._full_at) > MAX_CLIENTS:
            self._full_at.popitem(last=False)
        remaining = round((WINDOW_S - ahead_s) / self._each_s)
        return Quota(allowed=True, remaining=max(0, remaining), reset_s=ahead_s, retry_after_s=0.0)

    def headers(self, quota: Quota) -> Mapping[str, str]:
        """What an answer tells of it."""
        return {
            "RateLimit-Policy": f'"requests";q={self.per_minute};w={WINDOW_S}',
            "RateLimit": f'"requests";r={quota.remaining};t={math.ceil(quota.reset_s)}',
        }

    def __len__(self) -> int:
        return len(self._full_at)
