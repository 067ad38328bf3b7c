"""What marking costs the sink: its real write path, with and without the triggers, turn and turn about."""

import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.reading_rows import ReadingRows
from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream

CASES = ((1_000, 50), (1_000, 1_000), (10_000, 50), (10_000, 1_000))
BATCHES = 12
TRIGGERS = """
-- triggers: those that mark changes
select tgname from pg_trigger where tgrelid = to_regclass(%(table)s) and tgname like 'mark\\_%%'
"""


class Ingest:
    """Batches of live readings into the table of a stream, in transactions, as the sink writes them.

    Args:
        url: as the owner of the table.
        stream: whose; energy.
        repeat: how often each case is measured, with and without marks.
    """

    def __init__(self, url: str, stream: Stream, repeat: int) -> None:
        self._url, self._stream, self._repeat = url, stream, repeat

    def measure(self) -> Mapping[str, str]:
        """Rates by size of batch and number of devices."""
        found = {}
        with closing(connect(self._url, application_name="hl-bench-ingest")) as conn:
            rows = ReadingRows(self._stream)
            rows.make_stage(conn)
            for n_rows, n_devices in CASES:
                rates: dict[bool, list[float]] = {True: [], False: []}
                for number in range(self._repeat):
                    for marks in (True, False) if number % 2 else (False, True):
                        self._switch(conn, on=marks)
                        rates[marks].append(self._rate(conn, rows, n_rows, n_devices))
                self._switch(conn, on=True)
                with_marks, without = statistics.median(rates[True]), statistics.median(rates[False])
                found[f"ingest, batches of {n_rows:,} from {n_devices:,} devices, with marks / without"] = (
                    f"{with_marks:,.0f} / {without:,.0f} rows/s = {with_marks / without:.0%}"
                )
        return found

    def _rate(self, conn: psycopg.Connection, rows: ReadingRows, n_rows: int, n_devices: int) -> float:
        # The newest minutes, as live readings are: behind them there is nothing to look up.
        begin = datetime.now(UTC) - timedelta(seconds=(BATCHES + 1) * n_rows // n_devices)
        batches = [self._batch(begin, number, n_rows, n_devices) for number in range(BATCHES + 1)]
        took = 0.0
        for number, batch in enumerate(batches):
            began = time.perf_counter()
            with conn.transaction():
                rows.stage(conn, make_rows(batch).rows)
                rows.write(conn, len(batch))
            # The first one brings the devices, and plans the statements.
            took += time.perf_counter() - began if number else 0
        table = sql.Identifier(self._stream.table)
        with conn.transaction():
            conn.execute(sql.SQL("delete from public.{} where device_id like 'bench-%'").format(table))
            conn.execute("delete from hl.dirty where device_id like 'bench-%'")
        return BATCHES * n_rows / took

    def _batch(self, begin: datetime, number: int, n_rows: int, n_devices: int) -> list[Reading]:
        per_device = n_rows // n_devices
        moments = [begin + timedelta(seconds=number * per_device + n) for n in range(per_device)]
        return [
            Reading(f"bench-{device}", moment, (100.0 + number, 1.5, 230.0, 5.0), None, moment)
            for moment in moments
            for device in range(n_devices)
        ]

    def _switch(self, conn: psycopg.Connection, *, on: bool) -> None:
        names = conn.execute(TRIGGERS, {"table": f"public.{self._stream.table}"}).fetchall()
        for (name,) in names:
            conn.execute(
                sql.SQL("alter table public.{} {} trigger {}").format(
                    sql.Identifier(self._stream.table),
                    sql.SQL("enable" if on else "disable"),
                    sql.Identifier(name),
                )
            )
