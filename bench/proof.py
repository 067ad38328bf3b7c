"""The proof of a load through the running stack: every reading sent is one row, and the accounts balance."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg
from psycopg import sql

from bench.stack import RunningStack

COUNT_ROWS = """
-- count_rows: rows and distinct moments of the load's devices, by device
select device_id, count(*), count(distinct timestamp) from {table}
where device_id = any(%(devices)s) and timestamp >= %(start)s group by device_id
"""
ACCOUNTS = """
-- accounts: what each service counted of each stream
select service, stage, stream, received, forwarded, dead_lettered, duplicates, corrected, dropped, in_flight
from hl.accounts order by stage, service, stream
"""
DELETE_ROWS = """
-- delete_rows: takes the load's rows away again
delete from {table} where device_id = any(%(devices)s)
"""
Accounts = dict[tuple[str, str, str], dict[str, int]]
COUNTS = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight")
LOOK_EVERY_S = 0.2
ALL_IS_WELL = "Every reading sent is one row, and the accounts balance."


class Outcome(NamedTuple):
    """What a load has become.

    Args:
        n_rows: how many rows its devices have.
        waited_s: from the call until each reading was one row, or patience ended.
        accounts: of all services afterwards.
        wrong: one sentence for everything that does not hold; empty where all does.
    """

    n_rows: int
    waited_s: float
    accounts: Accounts
    wrong: list[str]


class Proof:
    """Made before a load is sent, asked when it has been.

    Args:
        stack: where to.
        streams: of the load's devices.
        patience_s: longest wait for the last row.
    """

    def __init__(self, stack: RunningStack, streams: Sequence[str], patience_s: float) -> None:
        self._stack, self._streams, self._patience_s = stack, streams, patience_s
        self.start = datetime.now(UTC)
        with stack.connect() as conn:
            self._before = read_accounts(conn)

    def settle(self, expected: Mapping[str, int]) -> Outcome:
        """Waits for rows and accounts.

        Args:
            expected: how many readings each device has sent.
        """
        began = time.monotonic()
        until, n_sent = began + self._patience_s, sum(expected.values())
        wanted = {device: (n, n) for device, n in expected.items()}
        with self._stack.connect() as conn:
            while (found := self._count(conn, expected)) != wanted and time.monotonic() < until:
                time.sleep(LOOK_EVERY_S)
            waited_s = time.monotonic() - began
            while not settled(self._before, accounts := read_accounts(conn), n_sent):
                if time.monotonic() > until:
                    break
                time.sleep(LOOK_EVERY_S)
        wrong = [
            f"{device}: {n} sent, {found.get(device, (0, 0))[0]} rows"
            for device, n in expected.items()
            if found.get(device) != (n, n)
        ]
        wrong += unbalanced(accounts) + differences(self._before, accounts, self._streams)
        if not settled(self._before, accounts, n_sent):
            wrong.append("a stage has not received everything")
        return Outcome(sum(n for n, _ in found.values()), waited_s, accounts, wrong)

    def clean_up(self, devices: Sequence[str]) -> None:
        """Takes the rows of the load's devices away again."""
        delete_rows(self._stack, self._streams, devices)

    def _count(self, conn: psycopg.Connection, expected: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        return read_counts(conn, self._stack, self._streams, list(expected), self.start)


def read_counts(
    conn: psycopg.Connection,
    stack: RunningStack,
    streams: Sequence[str],
    devices: Sequence[str],
    start: datetime,
) -> dict[str, tuple[int, int]]:
    """(rows, distinct moments) by device."""
    found = {}
    for stream in streams:
        query = sql.SQL(COUNT_ROWS).format(table=sql.Identifier(stack.streams[stream].table))
        for device, n_rows, n_moments in conn.execute(query, {"devices": devices, "start": start}):
            found[device] = (n_rows, n_moments)
    return found


def read_accounts(conn: psycopg.Connection) -> Accounts:
    """Counts by (stage, service, stream)."""
    return {
        (row[1], row[0], row[2]): dict(zip(COUNTS, row[3:], strict=True)) for row in conn.execute(ACCOUNTS)
    }


def unbalanced(accounts: Accounts) -> list[str]:
    """One sentence for each account whose sum is not what was received."""
    wrong = []
    for (stage, service, stream), counts in accounts.items():
        out = sum(counts[name] for name in COUNTS[1:])
        if counts["received"] != out:
            wrong.append(f"{stage} {service} {stream}: received {counts['received']}, accounted for {out}")
    return wrong


def settled(before: Accounts, after: Accounts, n_sent: int) -> bool:
    """Whether the heartbeats have told of everything: each stage received it all, and nothing is in flight."""
    for stage in ("bridge", "sink"):
        received = sum(c["received"] for key, c in after.items() if key[0] == stage)
        earlier = sum(c["received"] for key, c in before.items() if key[0] == stage)
        if received - earlier < n_sent:
            return False
    return True


def differences(before: Accounts, after: Accounts, streams: Sequence[str]) -> list[str]:
    """One sentence for each count of the load's streams that should not have moved."""
    wrong = []
    for (stage, service, stream), counts in after.items():
        earlier = before.get((stage, service, stream), dict.fromkeys(COUNTS, 0))
        for name in ("dead_lettered", "corrected", "dropped"):
            moved = counts[name] - earlier[name]
            if stream in streams and stage != "live" and moved:
                wrong.append(f"{stage} {service} {stream}: {name} rose by {moved}")
    return wrong


def delete_rows(stack: RunningStack, streams: Sequence[str], devices: Sequence[str]) -> None:
    """Takes the rows of devices away."""
    with stack.connect(read_only=False) as conn:
        for stream in streams:
            query = sql.SQL(DELETE_ROWS).format(table=sql.Identifier(stack.streams[stream].table))
            conn.execute(query, {"devices": list(devices)})
