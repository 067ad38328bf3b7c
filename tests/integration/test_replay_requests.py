"""Replays that are asked for: what Dagster does with a request, and what whoever asked is told."""

from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import msgspec
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from hl_platform.adapters.postgres.replay_requests import MAX_OPEN, ReplayRequests
from hl_platform.core.dead_letter_index import Selection
from hl_platform.core.errors import ConfigError
from hl_platform.core.replay_requests import ReplayRequest
from hl_platform.core.streams import Stream
from hl_platform.defs.dead_letters import KEY, build_asset
from hl_platform.defs.replay_requests import REQUEST_TAG, build_sensor, take_up
from tests.home import Home, eventually, record

WATCHING = """
select count(*)::int from pg_stat_activity
where datname = current_database() and application_name = 'hl-replay-sensor'
"""


def streams_of(home: Home) -> dict[str, Stream]:
    return {stream.name: stream for stream in home.streams.values()}


def store_of(home: Home) -> ReplayRequests:
    return ReplayRequests(home.env["HL_DATABASE__URL"], "test")


def ask(home: Home, *, dry_run: bool, until_id: int = 1_000_000) -> ReplayRequest:
    selection = Selection(stream=home.energy.name, until_id=until_id)
    asked = store_of(home).ask(selection, 1, "somebody at 127.0.0.1", dry_run=dry_run)
    assert asked is not None
    return asked


def now(home: Home, request: ReplayRequest) -> ReplayRequest:
    found = store_of(home).find(request.request_id)
    assert found is not None
    return found


def run(home: Home, request: dg.RunRequest, instance: dg.DagsterInstance) -> bool:
    asset = build_asset(home.settings, streams_of(home))
    done = dg.materialize(
        [asset], run_config=request.run_config, tags=request.tags, instance=instance, raise_on_error=False
    )
    return bool(done.success)


def tick_of(home: Home, *, watch_s: float) -> SensorExecutionData:
    rules = msgspec.structs.replace(home.settings.service, watch_s=watch_s)
    sensor = build_sensor(msgspec.structs.replace(home.settings, service=rules), streams_of(home))
    with dg.DagsterInstance.ephemeral() as instance:
        return sensor.evaluate_tick(dg.build_sensor_context(instance=instance))


@pytest.fixture
def rejected(home: Home) -> Home:
    """One message that is no JSON, and one that is rejected only because the table is too narrow."""
    home.execute(f"alter table {home.energy.table} add constraint low check (voltage < 200)")
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"), record("meter1", voltage=230.0))
        eventually(lambda: home.query("select 1 from hl.dead_letters"), lambda rows: len(rows) == 2)
    home.execute(f"alter table {home.energy.table} drop constraint low")
    return home


def test_a_dry_run_says_what_would_succeed_without_a_run_and_changes_nothing(rejected: Home):
    asked = ask(rejected, dry_run=True)
    with dg.DagsterInstance.ephemeral() as instance:
        assert list(take_up(rejected.settings, streams_of(rejected), instance)) == []
    done = now(rejected, asked)
    assert done.state == "done"
    assert done.judged is not None
    assert (done.judged.n, done.judged.accepted, done.judged.rejected) == (2, 1, 1)
    assert rejected.query("select state from hl.dead_letters") == [("new",), ("new",)]


def test_a_replay_is_one_run_that_tells_who_asked_what_became_of_it(rejected: Home):
    asked = ask(rejected, dry_run=False)
    with dg.DagsterInstance.ephemeral() as instance, rejected.running("sink"):
        [request] = take_up(rejected.settings, streams_of(rejected), instance)
        assert run(rejected, request, instance)
        assert list(take_up(rejected.settings, streams_of(rejected), instance)) == []
    done = now(rejected, asked)
    assert done.replayed is not None
    assert (done.state, done.replayed.n_stored, done.replayed.n_failed_again) == ("done", 1, 1)
    states = rejected.query("select state, state_by from hl.dead_letters order by state")
    by = f"somebody at 127.0.0.1, request {asked.request_id}"
    assert states == [("failed_again", by), ("replayed", by)]
    assert rejected.n_rows() == 1


def test_what_came_in_after_the_question_is_not_replayed(rejected: Home):
    [(first,)] = rejected.query("select min(id) from hl.dead_letters")
    asked = ask(rejected, dry_run=False, until_id=first)
    with dg.DagsterInstance.ephemeral() as instance, rejected.running("sink"):
        [request] = take_up(rejected.settings, streams_of(rejected), instance)
        assert run(rejected, request, instance)
    replayed = now(rejected, asked).replayed
    assert replayed is not None
    assert replayed.n_selected == 1


def test_a_run_that_died_is_told_to_whoever_asked(home: Home):
    asked = ask(home, dry_run=False)
    with dg.DagsterInstance.ephemeral() as instance:
        [request] = take_up(home.settings, streams_of(home), instance)
        job = dg.define_asset_job("replay", [KEY]).resolve(
            asset_graph=dg.Definitions(
                assets=[build_asset(home.settings, streams_of(home))]
            ).resolve_asset_graph()
        )
        instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.CANCELED,
            tags={REQUEST_TAG: str(asked.request_id), **request.tags},
        )
        assert list(take_up(home.settings, streams_of(home), instance)) == []
    failed = now(home, asked)
    assert failed.state == "failed"
    assert "did not succeed" in (failed.problem or "")


def test_a_sensor_without_a_request_says_so_and_starts_nothing(home: Home):
    assert tick_of(home, watch_s=0).skip_message == "Nobody has asked for a replay."


def test_a_sensor_that_watches_takes_up_what_is_asked_for_meanwhile(home: Home):
    with ThreadPoolExecutor() as threads:
        tick = threads.submit(tick_of, home, watch_s=30)
        eventually(lambda: home.query(WATCHING), lambda rows: rows == [(1,)])
        asked = ask(home, dry_run=False)
        [request] = tick.result().run_requests or []
    assert request.tags[REQUEST_TAG] == str(asked.request_id)


def test_requests_that_wait_are_bounded(home: Home):
    for _ in range(MAX_OPEN):
        ask(home, dry_run=True)
    assert store_of(home).ask(Selection(stream="energy", until_id=1), 1, "x", dry_run=True) is None


def test_a_run_for_a_request_that_is_none_is_refused(home: Home):
    request = dg.RunRequest(run_config={"ops": {KEY.to_python_identifier(): {"config": {"request_id": 7}}}})
    asset = build_asset(home.settings, streams_of(home))
    with pytest.raises(ConfigError, match="request_id=7"):
        dg.materialize([asset], run_config=request.run_config)
