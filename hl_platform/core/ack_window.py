"""Acknowledges in the order of arrival what is settled in any order."""

from collections import deque
from collections.abc import Iterable


class AckWindow:
    """Messages that were received and not yet acknowledged.

    A broker forgets what was in flight when the connection breaks and sends it again under other packet ids,
    so an acknowledgement must never outlive its connection. `clear` begins anew; what was opened before is ignored.

    Guarantee: packet ids are returned in the order in which they were opened, each once, and only after it
    and all before it were settled.
    Source: MQTT 5.0, 4.6.0-2: PUBACKs go out in the order of the PUBLISH packets.
    """

    def __init__(self) -> None:
        # Tokens are the numbers of the messages, so the one at the left has `_first`.
        self._packet_ids: deque[int] = deque()
        self._first = 0
        self._settled: set[int] = set()

    def __len__(self) -> int:
        return len(self._packet_ids)

    def open(self, packet_id: int) -> int:
        """Notes a received message; returns the token to settle it with."""
        self._packet_ids.append(packet_id)
        return self._first + len(self._packet_ids) - 1

    def settle(self, tokens: Iterable[int]) -> list[int]:
        """Marks messages as safe; returns the packet ids that may be acknowledged now, in order."""
        settled, first, ready = self._settled, self._first, []
        settled.update(tokens)
        while first in settled:
            settled.remove(first)
            ready.append(self._packet_ids.popleft())
            first += 1
        self._first = first
        if len(settled) > len(self._packet_ids):
            # Tokens from before: of messages that are not waited for any more.
            self._settled = {token for token in settled if token > first}
        return ready

    def is_open(self, token: int) -> bool:
        """Whether a message waits to be settled."""
        return token >= self._first and token not in self._settled

    def clear(self) -> None:
        """Forgets everything: the connection is gone."""
        self._first += len(self._packet_ids)
        self._packet_ids.clear()
        self._settled.clear()
