"""The feed's open connections, by address and by what they stand on."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hl_live.problems import TooManyError
from hl_platform.core.access import Grant

RETRY_AFTER_S = 10.0


class Connection:
    """One of them.

    Args:
        grant: what it may read.
        end: ends it, from the event loop.
    """

    def __init__(self, grant: Grant, end: Callable[[], object]) -> None:
        self.grant = grant
        self.ended = False
        self._end = end

    def end(self) -> None:
        """Ends it, once."""
        if not self.ended:
            self.ended = True
            self._end()


class Connections:
    """All of this process.

    Args:
        limit: of one address.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._all: set[Connection] = set()
        self._by_address: Counter[str] = Counter()

    def check(self, address: str) -> None:
        """Raises TooManyError if an address has as many as it may."""
        if self._by_address[address] >= self._limit:
            detail = f"{self._limit} connections of one address are open; HL_LIVE__MAX_CLIENTS_PER_ADDRESS."
            raise TooManyError(detail, RETRY_AFTER_S)

    @contextmanager
    def hold(self, address: str, connection: Connection) -> Iterator[None]:
        """Counts a connection for as long as the block lasts."""
        self._all.add(connection)
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._all.discard(connection)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def end_unless(self, good: Callable[[Grant], bool]) -> int:
        """Ends all whose grant is not good any more; returns how many."""
        over = [connection for connection in self._all if not good(connection.grant)]
        for connection in over:
            connection.end()
        return len(over)
