"""How often an address has presented something that opens nothing."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache

# Eight wrong ones at once are a person with a wrong clipboard; more than six a minute is a machine.
BURST = 8
REFILL_S = 10.0
# Addresses that are remembered; at most a few hundred kB.
MAX_ADDRESSES = 4_096


class Attempts:
    """Failed attempts by address, in bounded memory; each is forgotten after a while."""

    def __init__(self) -> None:
        # By address, the time at which all its failures are forgotten.
        self._forgotten_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until the address may try again; 0 if it may now."""
        ahead = self._forgotten_at.get(network_of(address), 0.0) - now
        return max(0.0, ahead - (BURST - 1) * REFILL_S)

    def fail(self, address: str, now: float) -> None:
        """Counts a failure."""
        key = network_of(address)
        self._forgotten_at[key] = max(self._forgotten_at.get(key, 0.0), now) + REFILL_S
        self._forgotten_at.move_to_end(key)
        while len(self._forgotten_at) > MAX_ADDRESSES:
            self._forgotten_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._forgotten_at)


# Every request asks; the same few addresses nearly always.
@lru_cache(maxsize=MAX_ADDRESSES)
def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the 64 bits that one household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:  # noqa: PLR2004 - IPv4
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
