"""Acknowledges in the order of arrival what is settled in any order."""

from collections import deque
from collections.abc import Iterable, Sequence


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

    def open(self, packet_ids: Sequence[int]) -> range:
        """Notes received messages; returns the tokens to settle them with."""
        self._packet_ids.extend(packet_ids)
        end = self._first + len(self._packet_ids)
        return range(end - len(packet_ids), end)

    def settle(self, tokens: Iterable[int]) -> list[int]:
        """Marks messages as safe; returns the packet ids that may be acknowledged now, in order."""
        settled, first = self._settled, self._first
        settled.update(tokens)
        end = first
        while end in settled:
            end += 1
        # All at once, which takes a fraction of the time that one after the other would.
        settled.difference_update(range(first, end))
        self._first = end
        if len(settled) > len(self._packet_ids) - (end - first):
            # Tokens from before: of messages that are not waited for any more.
            self._settled = {token for token in settled if token > end}
        return [self._packet_ids.popleft() for _ in range(first, end)]

    def is_open(self, token: int) -> bool:
        """Whether a message waits to be settled."""
        return token >= self._first and token not in self._settled

    def clear(self) -> None:
        """Forgets everything: the connection is gone."""
        self._first += len(self._packet_ids)
        self._packet_ids.clear()
        self._settled.clear()
