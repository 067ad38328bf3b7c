"""The table of requests to replay dead letters."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from hl_platform.adapters.postgres.connection import REQUEST, connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.dead_letter_index import Selection
from hl_platform.core.replay_requests import Judged, Replayed, ReplayRequest

# Beyond this many that wait, somebody's program is at fault.
MAX_OPEN = 20
# A person waits for what `await_open` is called for.
POLL_S = 1.0

COLUMNS = ", ".join(ReplayRequest.__struct_fields__)

ASK = f"""
-- ask_replay: a new request, unless too many wait
insert into hl.replay_requests (requested_by, dry_run, stream, fingerprint, device_id, until_id, n_selected)
select %(by)s, %(dry_run)s, %(stream)s, %(fingerprint)s, %(device_id)s, %(until_id)s, %(n_selected)s
where (select count(*) from hl.replay_requests where state in ('asked', 'running')) < %(max_open)s
returning {COLUMNS}
"""  # noqa: S608 - constants
ONE = f"""
-- replay_request: one request
select {COLUMNS} from hl.replay_requests where request_id = %(request_id)s
"""  # noqa: S608 - constants
NEWEST = f"""
-- newest_replay_requests: the newest first
select {COLUMNS} from hl.replay_requests order by request_id desc limit %(limit)s
"""  # noqa: S608 - constants
OPEN = f"""
-- open_replay_requests: what is still to be done, the oldest first
select {COLUMNS} from hl.replay_requests where state in ('asked', 'running') order by request_id
"""  # noqa: S608 - constants
ANY_OPEN = """
-- any_open_replay_request: whether something is still to be done
select exists (select from hl.replay_requests where state in ('asked', 'running'))
"""
BEGIN = """
-- begin_replay: a run has taken it
update hl.replay_requests set state = 'running', run_id = %(run_id)s
where request_id = %(request_id)s and state in ('asked', 'running')
"""
PROGRESS = """
-- replay_progress: how far the run is
update hl.replay_requests set step = %(step)s, n_done = %(n_done)s, n_total = %(n_total)s
where request_id = %(request_id)s and state = 'running'
"""
END = """
-- end_replay: what became of it
update hl.replay_requests
set state = case when %(problem)s::text is null then 'done' else 'failed' end, ended_at = now(),
    judged = %(judged)s::jsonb, replayed = %(replayed)s::jsonb, problem = %(problem)s
where request_id = %(request_id)s and state in ('asked', 'running')
"""


def request_of(row: tuple[Any, ...]) -> ReplayRequest:
    """The request of a row of COLUMNS."""
    return msgspec.convert(dict(zip(ReplayRequest.__struct_fields__, row, strict=True)), ReplayRequest)


class ReplayRequests:
    """Requests in the database, on a connection for each call: they are rare.

    Args:
        url: of the database; that of a reader suffices for looking.
        application_name: shown in pg_stat_activity.

    Raises from every method:
        TransientError: the database is away.

    Guarantee: for any thread. What has ended is never changed.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name

    def ask(self, selection: Selection, n_selected: int, by: str, *, dry_run: bool) -> ReplayRequest | None:
        """Keeps a new request; None if too many wait already.

        Args:
            selection: with `until_id`; its stream, fingerprint and device count.
            n_selected: how many entries that are.
            by: who wants it.
            dry_run: whether only to say what would succeed.
        """
        values = {
            "by": by,
            "dry_run": dry_run,
            "stream": selection.stream,
            "fingerprint": selection.fingerprint,
            "device_id": selection.device_id,
            "until_id": selection.until_id,
            "n_selected": n_selected,
            "max_open": MAX_OPEN,
        }
        return next(iter(self._requests(ASK, values)), None)

    def find(self, request_id: int) -> ReplayRequest | None:
        """One request; None if there is none of this number."""
        return next(iter(self._requests(ONE, {"request_id": request_id})), None)

    def open(self) -> Sequence[ReplayRequest]:
        """What is still to be done, the oldest first."""
        return self._requests(OPEN, {})

    def await_open(self, timeout_s: float) -> None:
        """Returns when something is still to be done, at the latest after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._connected() as conn, translated():
            while time.monotonic() < deadline and conn.execute(ANY_OPEN.encode()).fetchone() != (True,):
                time.sleep(POLL_S)

    def begin(self, request_id: int, run_id: str) -> None:
        """A run has taken it."""
        self._execute(BEGIN, {"request_id": request_id, "run_id": run_id})

    def note_progress(self, request_id: int, step: str, n_done: int, n_total: int) -> None:
        """How far the run is."""
        self._execute(
            PROGRESS, {"request_id": request_id, "step": step, "n_done": n_done, "n_total": n_total}
        )

    def end(
        self,
        request_id: int,
        *,
        judged: Judged | None = None,
        replayed: Replayed | None = None,
        problem: str | None = None,
    ) -> None:
        """What became of it; with a problem it has failed."""
        values = {
            "request_id": request_id,
            "judged": None if judged is None else msgspec.json.encode(judged).decode(),
            "replayed": None if replayed is None else msgspec.json.encode(replayed).decode(),
            "problem": problem,
        }
        self._execute(END, values)

    def _requests(self, query: str, values: Mapping[str, Any]) -> Sequence[ReplayRequest]:
        with self._connected() as conn, translated():
            return [request_of(row) for row in conn.execute(query.encode(), values).fetchall()]

    def _execute(self, query: str, values: Mapping[str, Any]) -> None:
        with self._connected() as conn, translated():
            conn.execute(query.encode(), values)

    def _connected(self) -> psycopg.Connection:
        return connect(self._url, application_name=self._name, parameters=REQUEST)
