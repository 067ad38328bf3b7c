"""The sensor that does what was asked for over the API: dry runs by itself, replays by a run."""

from collections.abc import Iterator, Mapping

import dagster as dg
import msgspec

from hl_platform.adapters.postgres.replay_requests import ReplayRequests
from hl_platform.core.errors import HlError, TransientError
from hl_platform.core.replay_requests import MAX_JUDGED, Judged, ReplayRequest
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.defs.dead_letters import JOB, KEY, ReprocessConfig
from hl_platform.pipeline.reprocess import reprocessing
from hl_platform.pipeline.verdicts import count_verdicts

# While something is under way, every turn of Dagster's loop, which takes 5 s.
TICK_S = 4
REQUEST_TAG = "hl/replay_request"
NOTHING = "Nobody has asked for a replay."


def build_replay_requests(settings: Settings, streams: Mapping[str, Stream]) -> dg.Definitions:
    """The sensor."""
    return dg.Definitions(sensors=[build_sensor(settings, streams)])


def build_sensor(settings: Settings, streams: Mapping[str, Stream]) -> dg.SensorDefinition:
    """The sensor that takes up requests."""

    @dg.sensor(
        name="replay_on_request",
        job_name=JOB,
        minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Takes up what was asked for on the page or over the API: judges dry runs by itself, launches a run for "
            "each replay, and says so where a run has failed. Switched off, requests wait."
        ),
    )
    def replay_on_request(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            store_of(settings).await_open(settings.service.watch_s)
            wanted = list(take_up(settings, streams, context.instance))
        except TransientError as exc:
            return dg.SkipReason(f"The database or Kafka cannot be reached: {exc}")
        return dg.SensorResult(run_requests=wanted) if wanted else dg.SkipReason(NOTHING)

    return replay_on_request


def take_up(
    settings: Settings, streams: Mapping[str, Stream], instance: dg.DagsterInstance
) -> Iterator[dg.RunRequest]:
    """Does the dry runs that wait; yields a run for each replay that has none.

    Args:
        settings: where the servers are.
        streams: by name.
        instance: whose runs may be at work already.

    Raises:
        TransientError: the database or Kafka is away; what was not done waits.
    """
    store = store_of(settings)
    for request in store.open():
        if request.dry_run:
            _judge(settings, streams, store, request)
            continue
        run = _run_of(instance, request.request_id)
        if run is None:
            yield _run_request(request)
        elif run.is_failure_or_canceled:
            # It would have said so itself, had it not been killed, or had it ever begun.
            store.end(request.request_id, problem=f"The run {run.run_id} in Dagster did not succeed.")


def store_of(settings: Settings) -> ReplayRequests:
    """The requests, for the sensor."""
    return ReplayRequests(require_address(settings.database.url, "database", "url"), "hl-replay-sensor")


def _judge(
    settings: Settings, streams: Mapping[str, Stream], store: ReplayRequests, request: ReplayRequest
) -> None:
    try:
        with reprocessing(settings, streams) as work:
            verdicts = count_verdicts(work.plan(request.selection, MAX_JUDGED))
    except TransientError:
        raise
    except HlError as exc:
        store.end(request.request_id, problem=str(exc))
        return
    store.end(request.request_id, judged=msgspec.convert(verdicts.document(), Judged))


def _run_of(instance: dg.DagsterInstance, request_id: int) -> dg.DagsterRun | None:
    runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: str(request_id)}), limit=1)
    return runs[0] if runs else None


def _run_request(request: ReplayRequest) -> dg.RunRequest:
    config = ReprocessConfig(request_id=request.request_id, dry_run=False)
    return dg.RunRequest(
        run_key=f"replay-{request.request_id}",
        tags={REQUEST_TAG: str(request.request_id)},
        run_config=dg.RunConfig(ops={KEY.to_python_identifier(): config}),
    )
