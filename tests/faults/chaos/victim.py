"""A bridge or sink as a process that stands still at a named point of its protocol until its parent says go on.

`python -m tests.faults.chaos.victim <service> <streams> [<step> <passage> <fd to say> <fd to hear>]`

The real objects run; what they are given is a subclass that passes each point on its way. All points are here.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from hl_platform.adapters.kafka.consumer import GroupConsumer, Record
from hl_platform.adapters.kafka.producer import KafkaProducer, Queueable
from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.adapters.mqtt.session import SocketSession, Token
from hl_platform.adapters.postgres.reading_rows import Written
from hl_platform.adapters.postgres.rows import Rows
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.adapters.spool import Spool
from hl_platform.core.accounts import Account
from hl_platform.core.coverage import Covered
from hl_platform.core.positions import Claim, Reached
from hl_platform.core.readings import Reading
from hl_platform.core.settings import load_settings
from hl_platform.pipeline import run_service
from hl_platform.pipeline.services import Service


class Gate:
    """Lets everything pass but one passage of one step.

    Args:
        step: which; an empty one is none.
        passage: which of its passages, from 1.
        say: file descriptor that gets a byte when it is reached.
        hear: file descriptor that the byte to go on comes from.
    """

    def __init__(self, step: str = "", passage: int = 0, say: int = -1, hear: int = -1) -> None:
        self.step, self._left, self._say, self._hear = step, passage, say, hear
        self._lock = threading.Lock()

    def reach(self, step: str) -> None:
        """Stands still if this is the passage."""
        if step != self.step:
            return
        with self._lock:
            self._left -= 1
            is_it = self._left == 0
        if is_it:
            os.write(self._say, b".")
            os.read(self._hear, 1)


gate = Gate()


class Session(SocketSession):
    """Passes `received`, `delivered` and `acknowledged`, one message after the other."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        self._held: deque[MqttMessage] = deque()

    def receive(self, timeout_s: float) -> Sequence[MqttMessage]:
        """See MqttSession."""
        if not self._held:
            self._held.extend(super().receive(timeout_s))
        if not self._held:
            return ()
        gate.reach("received")
        return [self._held.popleft()]

    def settle(self, tokens: Iterable[Token]) -> None:
        """See MqttSession."""
        for token in tokens:
            gate.reach("delivered")
            super().settle([token])
            gate.reach("acknowledged")


class Producer(KafkaProducer):
    """Passes `queued`."""

    def send(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - whatever the original takes
        """See KafkaProducer."""
        super().send(*arguments, **named)
        gate.reach("queued")

    def queue(self, records: Iterable[Queueable]) -> int:
        """See KafkaProducer."""
        n_taken = super().queue(records)
        for _ in range(n_taken):
            gate.reach("queued")
        return n_taken


class FileSpool(Spool):
    """Passes `spooled` and `drained`."""

    def append(self, entries: Sequence[bytes]) -> None:
        """See Spool."""
        super().append(entries)
        gate.reach("spooled")

    def release(self, number: int) -> None:
        """See Spool."""
        gate.reach("drained")
        super().release(number)


class Consumer(GroupConsumer):
    """Passes `claimed`, `read` and `shown`."""

    def start_at(self, places: Mapping[int, Any]) -> None:
        """See GroupConsumer."""
        gate.reach("claimed")
        super().start_at(places)

    def consume(self, max_records: int, max_age_s: float) -> list[Record]:
        """See GroupConsumer."""
        records = super().consume(max_records, max_age_s)
        if records:
            gate.reach("read")
        return records

    def show_position(self, next_offsets: Mapping[int, int]) -> None:
        """See GroupConsumer."""
        super().show_position(next_offsets)
        gate.reach("shown")


class Store(SinkStore):
    """Passes `rejected`, `advanced`, `written` and `committed`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        advance = self._offsets.advance

        def advanced(*moves: Any) -> None:  # noqa: ANN401
            advance(*moves)
            gate.reach("advanced")

        self._offsets.advance = advanced  # type: ignore[method-assign]

    def write(
        self,
        batch: Rows,
        claims: Mapping[int, Claim],
        reached: Mapping[int, Reached],
        account: Account,
        origins: Mapping[tuple[int, str], Covered],
        *,
        probes: Sequence[Reading] = (),
    ) -> Written:
        """See SinkStore."""
        if account.dead_lettered:
            gate.reach("rejected")
        written = super().write(batch, claims, reached, account, origins, probes=probes)
        gate.reach("committed")
        return written

    def _add_to_account(self, account: Account) -> None:
        super()._add_to_account(account)
        gate.reach("written")


def _put_in_place(wrapped: type) -> None:
    """Wherever the pipeline makes an object of the original, it makes one of the wrapped class."""
    original = wrapped.__base__
    modules = [module for name, module in sys.modules.items() if name.startswith("hl_platform.pipeline.")]
    places = [module for module in modules if getattr(module, original.__name__, None) is original]
    assert places, f"nobody makes a {original.__name__}"
    for module in places:
        setattr(module, original.__name__, wrapped)


def main(service: str, *stop_at: str) -> None:
    """Runs a service for as long as it lives."""
    global gate  # noqa: PLW0603 - one per process
    if stop_at:
        step, passage, say, hear = stop_at
        gate = Gate(step, int(passage), int(say), int(hear))
    for wrapped in (Session, Producer, FileSpool, Consumer, Store):
        _put_in_place(wrapped)
    planned = msgspec.json.decode(service, type=Service)
    report = run_service.run_service(load_settings(os.environ), planned, "", threading.Event())
    # Said for the parent, who wants to know why it ended.
    sys.stdout.write(f"ended: {report.reason}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
