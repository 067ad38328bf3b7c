"""Asks the services of this machine to end, and sees whether they have."""

import socket

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated

REQUEST_STOP = """
-- request_stop_here: ask every bridge and sink of this machine to flush, release and end
update hl.leases set stop_requested_at = now()
where host = %(host)s and released_at is null and stop_requested_at is null and stage in ('bridge', 'sink')
"""

READ_HELD = """
-- read_held_here: the bridges and sinks of this machine that are alive
select service from hl.leases
where host = %(host)s and released_at is null and stage in ('bridge', 'sink')
  and beat_at > clock_timestamp() - make_interval(secs => %(stale_after_s)s)
"""


class ServiceStopper:
    """Stops the bridges and sinks of this machine through their leases.

    Args:
        url: of the database.
        stale_after_s: age of a heartbeat at which its service counts as dead.

    Raises:
        TransientError: from every method, when the database cannot be reached now.
    """

    def __init__(self, url: str, stale_after_s: float) -> None:
        self._conn = connect(url, application_name="hl-stop")
        self._values = {"host": socket.gethostname(), "stale_after_s": stale_after_s}

    def request(self) -> None:
        """Asks them to end."""
        with translated():
            self._conn.execute(REQUEST_STOP, self._values)

    def held(self) -> list[str]:
        """Those that have not ended yet."""
        with translated():
            return [service for (service,) in self._conn.execute(READ_HELD, self._values)]

    def close(self) -> None:
        """Closes the connection."""
        self._conn.close()
