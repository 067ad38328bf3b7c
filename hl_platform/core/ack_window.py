"""Acknowledges in the order of arrival what is settled in any order."""

from collections import OrderedDict


class AckWindow:
    """Messages that were received and not yet acknowledged.

    A broker forgets what was in flight when the connection breaks and sends it again under other packet ids,
    so an acknowledgement must never outlive its connection. `clear` begins a new generation; what belongs to
    an older one is ignored.

    Guarantee: packet ids are returned in the order in which they were opened, each once, and only after it
    and all before it were settled.
    Source: MQTT 5.0, 4.6.0-2: PUBACKs go out in the order of the PUBLISH packets.
    """

    def __init__(self) -> None:
        self._generation = 0
        self._settled: OrderedDict[int, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._settled)

    def open(self, packet_id: int) -> tuple[int, int]:
        """Notes a received message; returns the token to settle it with."""
        self._settled[packet_id] = False
        return (self._generation, packet_id)

    def settle(self, token: tuple[int, int]) -> list[int]:
        """Marks a message as safe; returns the packet ids that may be acknowledged now, in order."""
        generation, packet_id = token
        if generation != self._generation or packet_id not in self._settled:
            return []
        self._settled[packet_id] = True
        ready = []
        for waiting, settled in self._settled.items():
            if not settled:
                break
            ready.append(waiting)
        for done in ready:
            del self._settled[done]
        return ready

    def is_open(self, token: tuple[int, int]) -> bool:
        """Whether a message waits to be settled."""
        generation, packet_id = token
        return generation == self._generation and not self._settled.get(packet_id, True)

    def clear(self) -> None:
        """Forgets everything: the connection is gone."""
        self._generation += 1
        self._settled.clear()
