"""Reads what `hl top` shows; what cannot be read is left as it was and named."""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from dbt_like_sql.engine.marks import Backlog, read_backlog
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.kafka.lag import read_partition_lag
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.adapters.postgres.silent_devices import SilentDevice, read_silent_devices
from hl_platform.adapters.postgres.status import PipelineStatus, read_status
from hl_platform.core.errors import HlError
from hl_platform.core.lag import PartitionLag
from hl_platform.core.settings import Settings
from hl_platform.stack.layout import plan_directories
from hl_platform.stack.state import read_state
from hl_platform.stack.status import list_services
from hl_platform.streams import load_streams

# Marks and devices change slowly, and looking for them costs more than all the rest.
SLOWLY_S = 15.0


class Snapshot(NamedTuple):
    """Everything at one moment.

    Args:
        at_s: when, in seconds of a clock that only rises.
        services: as `hl status` lists them.
        pipeline: what the stages have counted.
        lag: of the sinks, by partition.
        backlog: what waits for a refresh, by model.
        silent: devices that have said nothing for longer than their stream expects.
        problems: what could not be read, one sentence each.
    """

    at_s: float
    services: Sequence[dict[str, object]]
    pipeline: PipelineStatus
    lag: Sequence[PartitionLag]
    backlog: Sequence[Backlog]
    silent: Sequence[SilentDevice]
    problems: Sequence[str]


class SnapshotReader:
    """Reads snapshots, one after the other; not for use by several threads.

    Args:
        settings: with the addresses of all servers.

    Guarantee: raises nothing of an outage.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._streams = load_streams(settings.streams_dir)
        self._project = load_project(self._streams, settings.models_dir)
        self._url = settings.database.read_url or settings.database.url or ""
        self._pipeline = PipelineStatus([], [], {}, {})
        self._lag: Sequence[PartitionLag] = ()
        self._backlog: Sequence[Backlog] = ()
        self._silent: Sequence[SilentDevice] = ()
        self._slowly_at = -SLOWLY_S

    def read(self) -> Snapshot:
        """The state of now."""
        problems: list[str] = []
        try:
            self._read_database()
        except HlError as exc:
            problems.append(f"PostgreSQL does not tell: {exc}")
        try:
            # Without the feeds' groups: those are asked of a coordinator, see `read_partition_lag`.
            self._lag = read_partition_lag(self._settings.kafka, (), self._pipeline.next_offsets)
        except HlError as exc:
            problems.append(f"Kafka does not tell: {exc}")
        data_dir, _ = plan_directories(self._settings)
        state = read_state(data_dir)
        programs = [] if state is None else state.programs
        services = list_services(programs, self._pipeline.holders, self._settings.service.stale_after_s)
        return Snapshot(
            time.monotonic(), services, self._pipeline, self._lag, self._backlog, self._silent, problems
        )

    def _read_database(self) -> None:
        with connect(self._url, application_name="hl-top") as conn:
            self._pipeline = read_status(conn)
            if time.monotonic() - self._slowly_at < SLOWLY_S:
                return
            self._silent = [
                device for stream in self._streams.values() for device in read_silent_devices(conn, stream)
            ]
        with closing(SqlDatabase(self._url, "hl-top")) as db:
            self._backlog = list(read_backlog(db, self._project).values())
        self._slowly_at = time.monotonic()
