"""Forgets old events in Dagster's storage that belong to no run; nothing of Dagster's own does.

Written for the schema of dagster 1.13. An event with a run goes when its run is deleted.
"""

import structlog

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated

log = structlog.get_logger()

# Small enough that a batch holds its locks for well under a second.
BATCH_ROWS = 5_000

# The newest event of its kind stays, since the page shows it; so does the newest of an asset's partition, since it
# is what makes the partition count as materialized. An answer to a check goes with its record below.
FORGET_EVENTS = """
-- forget_events: one batch of old events without a run, and their tags
with doomed as (
    select id from event_logs as old
    where run_id = '' and "timestamp" < timezone('utc', now()) - make_interval(days => %(days)s)
      and case when dagster_event_type = 'ASSET_CHECK_EVALUATION' then
              not exists (select from asset_check_executions where evaluation_event_storage_id = old.id)
          else
              exists (select from event_logs as newer
                      where newer.asset_key = old.asset_key
                        and newer.dagster_event_type = old.dagster_event_type and newer.id > old.id
                        and (old.partition is null or newer.partition = old.partition))
          end
    limit %(limit)s
), tags as (
    delete from asset_event_tags where event_id in (select id from doomed)
)
delete from event_logs where id in (select id from doomed)
"""

FORGET_CHECKS = """
-- forget_checks: one batch of old answers to asset checks without a run, but never a check's newest
delete from asset_check_executions
where id in (
    select id from asset_check_executions as old
    where run_id = '' and partition is null
      and evaluation_event_timestamp < timezone('utc', now()) - make_interval(days => %(days)s)
      and exists (select from asset_check_executions as newer
                  where newer.asset_key = old.asset_key and newer.check_name = old.check_name
                    and newer.id > old.id)
    limit %(limit)s
)
"""


def forget_runless_events(dagster_url: str, *, days: int) -> int:
    """Deletes events that belong to no run and are older than some days; returns how many.

    Args:
        dagster_url: of Dagster's storage.
        days: age from which they go.

    Raises:
        TransientError: the database cannot be reached now; what was deleted stays deleted.

    Guarantee: every asset keeps its newest materialization and every check its newest answer.
    """
    n_deleted = 0
    with connect(dagster_url, application_name="hl-housekeeping") as conn, translated():
        for statement in (FORGET_CHECKS, FORGET_EVENTS):
            while True:
                n = conn.execute(statement, {"days": days, "limit": BATCH_ROWS}).rowcount
                n_deleted += n
                if n < BATCH_ROWS:
                    break
    log.info("runless_events_forgotten", n_events=n_deleted, days=days)
    return n_deleted
