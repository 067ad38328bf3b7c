"""The body of a keep-alive sensor: look, decide, act, until something is to be launched or the tick is over."""

import time

import dagster as dg
import structlog

from hl_platform.adapters.postgres.lease_reader import LeaseReader, LeaseRow
from hl_platform.adapters.processes import kill_process, process_gone
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import ServiceSettings
from hl_platform.core.settings import Settings
from hl_platform.defs.runs import HANDOVER_TAG, end_run, list_runs
from hl_platform.pipeline.keep_alive import (
    MISSED_BEATS,
    AskToStop,
    EndRun,
    HandOver,
    Situation,
    Start,
    StayStopped,
    Wait,
    plan_keep_alive,
    plan_next_look,
    recall_runs,
)
from hl_platform.pipeline.run_memory import ListedRun, decode_memory, encode_memory, remember

log = structlog.get_logger()

Outcome = dg.RunRequest | dg.SkipReason


def keep_alive(
    context: dg.SensorEvaluationContext, service: str, job_name: str, settings: Settings
) -> Outcome:
    """What a tick of the sensor results in.

    Args:
        context: of the tick.
        service: whose lease to watch.
        job_name: of the service.
        settings: with the address of the database.
    """
    if settings.database.url is None:
        return dg.SkipReason("HL_DATABASE__URL is not set. Run `hl up`.")
    try:
        with LeaseReader(settings.database.url) as reader:
            watch = Watch(context, reader, service, job_name, settings.service)
            outcome = watch.run()
    except TransientError as exc:
        return dg.SkipReason(f"The database cannot be reached, so nothing is decided: {exc}")
    context.update_cursor(watch.cursor)
    return outcome


class Watch:
    """One tick of one sensor."""

    def __init__(
        self,
        context: dg.SensorEvaluationContext,
        reader: LeaseReader,
        service: str,
        job_name: str,
        rules: ServiceSettings,
    ) -> None:
        self._context = context
        self._reader = reader
        self._service = service
        self._job_name = job_name
        self._rules = rules
        self._memory = decode_memory(context.cursor)
        self._runs: list[ListedRun] | None = None
        self._lease: LeaseRow | None = None
        self._next_look_s = 0.0

    @property
    def cursor(self) -> str:
        """What the next tick should remember."""
        return encode_memory(self._memory)

    def run(self) -> Outcome:
        """Watches until there is something to launch, or for `watch_s`."""
        deadline = time.monotonic() + self._rules.watch_s
        while True:
            outcome, settled = self._step()
            left_s = deadline - time.monotonic()
            if outcome is not None and (not settled or left_s <= 0):
                return outcome
            if outcome is not None:
                time.sleep(min(self._next_look_s, left_s))

    def _step(self) -> tuple[Outcome | None, bool]:
        """The tick's outcome so far, None to look again at once; and whether it is worth watching on."""
        situation = self._look()
        self._next_look_s = plan_next_look(situation, self._rules)
        match plan_keep_alive(situation, self._rules):
            case Start():
                return dg.RunRequest(), False
            case HandOver(run_id):
                return dg.RunRequest(tags={HANDOVER_TAG: run_id}), False
            case StayStopped(run_id):
                return dg.SkipReason(self._stopped_message(run_id)), False
            case EndRun(run_id, canceled, reason):
                self._end(run_id, reason, canceled=canceled)
                return None, False
            case AskToStop(run_id):
                log.warning("stop_requested", service=self._service, run_id=run_id)
                self._reader.request_stop(self._service, run_id)
                return None, False
            case Wait(reason):
                return dg.SkipReason(f"{self._service}: {reason}."), True

    def _look(self) -> Situation:
        before = self._lease
        clock, lease = self._reader.look(self._service)
        self._lease = lease
        silent = lease is None or clock.now - lease.beat_at > MISSED_BEATS * self._rules.heartbeat_s
        changed = before is None or lease is None or before.run_id != lease.run_id
        # While the service beats, its row is all that needs reading.
        if self._runs is None or silent or changed or (lease and lease.released_at is not None):
            self._runs = list_runs(self._context.instance, self._job_name)
        switched_on = self._context.last_sensor_start_time
        self._memory = remember(self._memory, self._runs, clock.now, switched_on)
        gone = {run.run_id for run in self._runs if run.process is not None and process_gone(run.process)}
        return Situation(recall_runs(self._runs, gone, self._memory, switched_on), lease, clock)

    def _end(self, run_id: str, reason: str, *, canceled: bool) -> None:
        # The run's own process and no other: the lease may name a sibling that stands in. Suspended, it would
        # wake up later; it could not write then, but it would still be there.
        process = next((run.process for run in self._runs or () if run.run_id == run_id), None)
        killed = process is not None and kill_process(process)
        log.warning("run_declared_dead", service=self._service, run_id=run_id, reason=reason, killed=killed)
        message = f"Declared dead by the keep-alive sensor: {reason}."
        end_run(self._context.instance, run_id, message, canceled=canceled)
        self._runs = None

    def _stopped_message(self, run_id: str) -> str:
        return (
            f"{self._service} stays stopped, because run {run_id} was terminated by a person. To start it again, "
            f"switch this sensor off and, ten seconds later, on again, or launch the job {self._job_name}."
        )
