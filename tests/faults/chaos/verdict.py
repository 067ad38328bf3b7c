"""Whether a household's rows, dead letters, order and accounts are exactly those that its messages make."""

from collections import Counter
from collections.abc import Sequence

from tests.faults.chaos import load
from tests.home import Home

SETTLED = ("forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight")
N_SHOWN = 3


class Expected:
    """What was sent.

    Args:
        home: whose.
        messages: through MQTT, in order.
        probes: invalid messages that reached the bridge before the load.
        n_garbage: records put on the Kafka topic by somebody else.
    """

    def __init__(self, home: Home, messages: Sequence[load.Message], probes: int, n_garbage: int) -> None:
        self._home = home
        self.rows = load.expected_rows(messages)
        self._order = load.expected_order(messages)
        self._invalid = Counter(
            (home.topic(message.device), message.payload) for message in messages if message.row is None
        )
        self._invalid[home.topic("probe"), b""] += probes
        self._n_garbage = n_garbage

    def faults(self, *, sink_was_replaced: bool) -> list[str]:
        """One sentence for everything that is not as it should be, now.

        Args:
            sink_was_replaced: a sink that took over may repeat the dead letters of a batch that its
                predecessor did not commit; one that lives may not.
        """
        records = self._home.records(self._home.energy.kafka_topic)
        return [
            *self.wrong_rows(),
            *self._wrong_dead_letters(load.garbage_of(records), sink_was_replaced=sink_was_replaced),
            *self._wrong_index(),
            *self._wrong_order(load.order_of(records)),
            *self.wrong_accounts(len(records)),
        ]

    def is_done(self) -> bool:
        """Whether rows, index and accounts are as they should be: the cheap part, asked again and again."""
        if self.wrong_rows() or self._wrong_index():
            return False
        # A spool that still holds something, or that waits for a fenced bridge to end, will count more.
        if self._home.query("select from hl.alerts where code like 'spool%%'"):
            return False
        return not self.wrong_accounts(len(self._home.records(self._home.energy.kafka_topic)))

    def wrong_rows(self) -> list[str]:
        """Missing, additional and different rows."""
        stored = load.stored_rows(self._home)
        missing = sorted(self.rows.keys() - stored.keys())
        additional = sorted(stored.keys() - self.rows.keys())
        different = [
            (key, self.rows[key], stored[key])
            for key in self.rows.keys() & stored.keys()
            if self.rows[key] != stored[key]
        ]
        return [
            *_said("rows missing", missing),
            *_said("rows that nobody sent", additional),
            *_said("rows with other values (sent, stored)", different),
        ]

    def _wrong_dead_letters(
        self, garbage: set[tuple[int, int, bytes]], *, sink_was_replaced: bool
    ) -> list[str]:
        found = load.dead_letters(self._home)
        repeated = [] if sink_was_replaced else [item for item, n in found.sink.items() if n > 1]
        return [
            *_said("invalid messages without a dead letter", list((self._invalid - found.bridge).elements())),
            *_said(
                "bridge's dead letters of valid messages", list(found.bridge.keys() - self._invalid.keys())
            ),
            *_said("garbage without a dead letter", list(garbage - found.sink.keys())),
            *_said("sink's dead letters of other records", list(found.sink.keys() - garbage)),
            *_said("sink's dead letters repeated though it lived", repeated),
        ]

    def _wrong_index(self) -> list[str]:
        """Whether the index has what the sink rejected once each, and every invalid message of a device."""
        found = dict(self._home.query("select stage, count(*) from hl.dead_letters group by stage"))
        faults = []
        if found.get("sink", 0) != self._n_garbage:
            faults.append(f"index: {found.get('sink', 0)} entries of {self._n_garbage} rejected records")
        if found.get("bridge", 0) < self._invalid.total():
            faults.append(
                f"index: {found.get('bridge', 0)} entries of {self._invalid.total()} invalid messages"
            )
        return faults

    def _wrong_order(self, found: dict[str, list[int]]) -> list[str]:
        devices = sorted(device for device in self._order if found.get(device) != self._order[device])
        return _said("devices whose readings changed their order", devices)

    def wrong_accounts(self, n_records: int) -> list[str]:
        """Stages that do not balance, or do not count what is there."""
        home, bridge, sink = self._home, self._home.account("bridge"), self._home.account("sink")
        facts = {
            "bridge: received = sum of the rest": (bridge["received"], sum(bridge[name] for name in SETTLED)),
            "bridge: in flight": (bridge["in_flight"], 0),
            "bridge: forwarded = its records on Kafka": (bridge["forwarded"], n_records - self._n_garbage),
            "sink: received = sum of the rest": (sink["received"], sum(sink[name] for name in SETTLED)),
            "sink: in flight": (sink["in_flight"], 0),
            "sink: received = records on Kafka": (sink["received"], n_records),
            "sink: forwarded = rows": (sink["forwarded"], home.n_rows()),
            "sink: dead-lettered = garbage": (sink["dead_lettered"], self._n_garbage),
        }
        return [f"{name}: {one} and {other}" for name, (one, other) in facts.items() if one != other]


def _said(what: str, found: Sequence[object]) -> list[str]:
    if not found:
        return []
    shown = ", ".join(str(item) for item in found[:N_SHOWN])
    return [f"{len(found)} {what}: {shown}{', …' if len(found) > N_SHOWN else ''}"]
