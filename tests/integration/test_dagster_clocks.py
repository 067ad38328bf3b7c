"""Dagster keeps services alive although its clock and the database's differ by a quarter of an hour."""

import os
import signal
from collections.abc import Iterator

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.dagster_stack import DagsterStack, dagster_stack

pytestmark = pytest.mark.slow

# What every connection to the test's database from here on is told when it asks for the time. Functions of an
# earlier schema hide those of pg_catalog.
SKEW = """
create schema skewed;
grant usage on schema skewed to public;
create function skewed.now() returns timestamptz language sql stable
    as $$ select pg_catalog.now() + interval '{skew_s} s' $$;
create function skewed.clock_timestamp() returns timestamptz language sql volatile
    as $$ select pg_catalog.clock_timestamp() + interval '{skew_s} s' $$;
create function skewed.pg_postmaster_start_time() returns timestamptz language sql stable
    as $$ select pg_catalog.pg_postmaster_start_time() + interval '{skew_s} s' $$;
create view skewed.pg_stat_bgwriter as
    select stats_reset + interval '{skew_s} s' as stats_reset from pg_catalog.pg_stat_bgwriter;
do $$ begin
    execute format('alter database %I set search_path = skewed, pg_catalog, public', current_database());
end $$;
"""


@pytest.fixture(scope="module", params=[-900, 900], ids=["database_behind", "database_ahead"])
def stack(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    kafka: EmbeddedKafka,
    mosquitto: EmbeddedMosquitto,
) -> Iterator[DagsterStack]:
    def skew(stack: DagsterStack) -> None:
        stack.house.execute(SKEW.format(skew_s=request.param))

    with dagster_stack(postgres, kafka, mosquitto, before_start=skew) as stack:
        yield stack


def test_dead_and_hung_services_are_replaced(stack: DagsterStack) -> None:
    for service, how in (("bridge", signal.SIGKILL), ("sink", signal.SIGSTOP)):
        before = stack.holder(service)
        os.kill(before.pid, how)
        stack.holder(service, after=before.run_id)
        assert stack.status(before.run_id) == "FAILURE"
    stack.carries("after-both")


@pytest.mark.timeout(400)
def test_terminated_service_stays_stopped_until_its_sensor_is_switched_on_again(stack: DagsterStack) -> None:
    run_id = stack.holder("bridge").run_id
    stack.terminate(run_id)
    for _ in range(2):
        stack.await_tick("keep_bridge_alive")
    assert stack.runs("bridge")[0]["runId"] == run_id
    stack.switch("keep_bridge_alive", on=False)
    stack.switch("keep_bridge_alive", on=True)
    stack.holder("bridge", after=run_id)
    stack.carries("after-switching-on")
