"""Dagster's runs of one job, as the planner wants them, and the few things done to them."""

import os
from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from hl_platform.adapters.processes import ProcessId, identify
from hl_platform.pipeline.run_memory import ACTIVE, ListedRun

# Enough to see every quick failure that lengthens the pause.
N_FINISHED = 10
# Both tags are on every run of ours that holds no materialization: its record may be deleted.
SERVICE_TAG = "service"
DISPOSABLE_TAG = "hl/disposable"
HANDOVER_TAG = "hl/handover"
# Which process a run works in: the lease may be another's by the time that somebody has to end it.
PROCESS_TAG = "hl/process"


def list_runs(instance: dg.DagsterInstance, job_name: str) -> list[ListedRun]:
    """Every active run of a job and its newest finished ones, newest first."""
    active = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus[status] for status in ACTIVE])
    records = {
        record.dagster_run.run_id: record
        for record in (
            *instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=N_FINISHED),
            *instance.get_run_records(active),
        )
    }
    newest_first = sorted(records.values(), key=lambda record: record.storage_id, reverse=True)
    return [_run_of(record) for record in newest_first]


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Writes down that a run works in this process."""
    process = identify(os.getpid())
    if process is not None:
        instance.add_run_tags(run_id, {PROCESS_TAG: process.text})


def end_run(instance: dg.DagsterInstance, run_id: str, message: str, *, canceled: bool) -> None:
    """Declares a run failed, or canceled where a person wanted it to end. One that ended meanwhile stays."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    if canceled:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)


def ended_by_others(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a person terminated a run, or it was declared dead, while it worked."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in (
        dg.DagsterRunStatus.CANCELING,
        dg.DagsterRunStatus.CANCELED,
        dg.DagsterRunStatus.FAILURE,
    )


def newest_was_terminated(runs: Sequence[ListedRun]) -> bool:
    """Whether the newest run ended because a person wanted it to."""
    return bool(runs) and runs[0].status == "CANCELED"


def _run_of(record: dg.RunRecord) -> ListedRun:
    run = record.dagster_run
    return ListedRun(run.run_id, run.status.name, ProcessId.parse(run.tags.get(PROCESS_TAG, "")))


def forget_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Deletes records and logs of disposable runs that ended before a moment; returns how many.

    Guarantee: a job's newest run stays, because it may say that a person stopped the service; a run without
    the tag stays, because deleting it would delete what it materialized.
    """
    old = dg.RunsFilter(
        tags={DISPOSABLE_TAG: "true"},
        statuses=[status for status in dg.DagsterRunStatus if status.name not in ACTIVE],
        updated_before=before,
    )
    runs = [record.dagster_run for record in instance.get_run_records(old)]
    newest = {name: list_runs(instance, name)[0].run_id for name in {run.job_name for run in runs}}
    doomed = [run.run_id for run in runs if run.run_id != newest[run.job_name]]
    for run_id in doomed:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(doomed)
