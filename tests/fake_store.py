"""A sink's store and producer in memory. tests/integration/test_store_contract.py holds the store to the real one."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from hl_platform.adapters.kafka.producer import Delivery
from hl_platform.adapters.postgres.reading_rows import Written
from hl_platform.adapters.postgres.rows import Rows
from hl_platform.core.accounts import Account
from hl_platform.core.coverage import Covered
from hl_platform.core.dead_letters import DeadLetter
from hl_platform.core.errors import PoisonRecordError, TransientError
from hl_platform.core.positions import Claim, Reached
from hl_platform.core.readings import Reading

Key = tuple[str, datetime]


class FakeStore:
    """Does what `SinkStore` does.

    Args:
        is_bad: which readings the table rejects.
        goes_away: asked before and after each commit, and before each search, whether the line breaks there.
    """

    def __init__(
        self, is_bad: Callable[[Reading], bool], goes_away: Callable[[], bool] = lambda: False
    ) -> None:
        self._is_bad = is_bad
        self._goes_away = goes_away
        self.rows: dict[Key, Reading] = {}
        self.account = Account()
        self.reached: dict[int, Reached] = {}
        self.origins: dict[tuple[int, str], Covered] = {}

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
        assert batch.are_distinct
        assert not probes
        readings = batch.readings
        self._may_break()
        assert all(claims[partition].next_offset <= place.next_offset for partition, place in reached.items())
        if rejected := self._rejected(readings):
            raise rejected[0][1]
        written = Written(0, 0)
        for reading in readings:
            written = self._upsert(reading, written)
        account.forwarded += written.inserted
        account.corrected += written.corrected
        account.duplicates += len(readings) - written.inserted - written.corrected
        self._add(account)
        for key, covered in origins.items():
            self.origins[key] = self.origins.get(key, Covered()).then(covered)
        self.reached.update(reached)
        self._may_break()
        return written

    def find_rejected(self, readings: Sequence[Reading]) -> list[tuple[int, PoisonRecordError]]:
        self._may_break()
        return self._rejected(readings)

    def _rejected(self, readings: Sequence[Reading]) -> list[tuple[int, PoisonRecordError]]:
        fault = PoisonRecordError("sqlstate_23514", "not allowed", sqlstate="23514")
        return [(index, fault) for index, reading in enumerate(readings) if self._is_bad(reading)]

    def _upsert(self, reading: Reading, written: Written) -> Written:
        key = (reading.device_id, reading.timestamp)
        stored = self.rows.get(key)
        if stored is None:
            self.rows[key] = reading
            return Written(written.inserted + 1, written.corrected)
        same = (stored.values, stored.extra) == (reading.values, reading.extra)
        if same or reading.received_at < stored.received_at:
            return written
        self.rows[key] = reading
        return Written(written.inserted, written.corrected + 1)

    def _add(self, account: Account) -> None:
        for name in ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped"):
            setattr(self.account, name, getattr(self.account, name) + getattr(account, name))

    def _may_break(self) -> None:
        if self._goes_away():
            raise TransientError("the line broke")


class FakeProducer:
    """Acknowledges every record when it is polled."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self._waiting: list[Callable[[Delivery], None]] = []

    def send(
        self,
        _kafka_topic: str,
        _key: str | None,
        _value: bytes,
        on_delivery: Callable[[Delivery], None],
        headers: Mapping[str, str | bytes],
    ) -> None:
        as_bytes = [(name, str(text).encode()) for name, text in headers.items()]
        self.letters.append(DeadLetter.from_headers(as_bytes))
        self._waiting.append(on_delivery)

    def poll(self, _timeout_s: float) -> int:
        for on_delivery in self._waiting:
            on_delivery(Delivery(None, 0, 0))
        self._waiting.clear()
        return 0
