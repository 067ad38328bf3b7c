"""The long-running services: a job and a keep-alive sensor for each."""

from collections.abc import Mapping

import dagster as dg

from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.runtime import spare_what_is_loaded
from hl_platform.core.settings import Settings
from hl_platform.core.streams import Stream
from hl_platform.defs.interruptible import run_interruptibly
from hl_platform.defs.keep_alive import Outcome, keep_alive
from hl_platform.defs.runs import DISPOSABLE_TAG, SERVICE_TAG, ended_by_others, note_process
from hl_platform.pipeline.run_service import ServiceReport, run_service
from hl_platform.pipeline.services import Service, plan_services

# Dagster's sensor loop turns every 5 s, and a tick ends shortly before one of them (HL_SERVICE__WATCH_S). After one
# that launched something the next follows at the next turn; an interval of 5 would skip it where it comes a
# millisecond early.
TICK_S = 4

WHAT = {
    "bridge": "Carries readings from MQTT to Kafka; invalid ones go to the dead-letter topics.",
    "sink": "Carries readings from Kafka into PostgreSQL, each exactly once.",
}


def build_services(settings: Settings, streams: Mapping[str, Stream]) -> dg.Definitions:
    """A job and a sensor for every bridge and sink that should be running."""
    services = plan_services(settings, streams)
    jobs = [build_job(service, settings) for service in services]
    sensors = [build_sensor(service, job, settings) for service, job in zip(services, jobs, strict=True)]
    return dg.Definitions(jobs=jobs, sensors=sensors)


def job_name_of(service: str) -> str:
    """The name of a service's job; Dagster allows no dashes."""
    return service.replace("-", "_")


def build_job(service: Service, settings: Settings) -> dg.JobDefinition:
    """The job whose one run is the service."""
    name = job_name_of(service.name)

    @dg.op(name=f"run_{name}", description=WHAT[service.stage], out=dg.Out(dg.Nothing))
    def body(context: dg.OpExecutionContext) -> None:
        configure_logging(settings.log, service=service.name)
        note_process(context.instance, context.run_id)
        spare_what_is_loaded()
        report = run_interruptibly(lambda stop: run_service(settings, service, context.run_id, stop))
        if ended_by_others(context.instance, context.run_id):
            # Ended through the lease while Dagster could not reach us: not a success.
            raise dg.DagsterExecutionInterruptedError
        context.add_output_metadata(describe_report(report))

    @dg.job(
        name=name,
        description=describe_service(service),
        # One process for a service: with more, killing the parent leaves an orphan that works on.
        executor_def=dg.in_process_executor,
        tags={SERVICE_TAG: service.name, DISPOSABLE_TAG: "true"},
    )
    def service_job() -> None:
        body()

    return service_job


def build_sensor(service: Service, job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """The sensor that keeps exactly one run of the job alive."""

    @dg.sensor(
        name=f"keep_{job.name}_alive",
        job=job,
        minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Keeps exactly one run of {job.name} alive: starts it, replaces it within seconds when its process "
            f"dies, and renews it every {settings.service.max_age_s / 3600:g} h without a pause. A run that you "
            "terminate stays stopped until you switch this sensor off and on, or launch the job yourself."
        ),
    )
    def keep(context: dg.SensorEvaluationContext) -> Outcome:
        return keep_alive(context, service.name, job.name, settings)

    return keep


def describe_service(service: Service) -> str:
    """What a stranger should know who meets the job in Dagster."""
    names = ", ".join(stream.name for stream in service.streams)
    return (
        f"{WHAT[service.stage]} Streams: {names}. Runs for days on purpose; its sensor keeps exactly one run alive. "
        "Launching a second run is safe: it takes over from the first, and no reading is lost."
    )


def describe_report(report: ServiceReport) -> dict[str, dg.MetadataValue]:
    """What the run shows when it has ended by itself."""
    counts = {
        f"{stream}: received, forwarded, dead-lettered": dg.MetadataValue.text(
            f"{account.received}, {account.forwarded}, {account.dead_lettered}"
        )
        for stream, account in report.accounts.items()
    }
    return {"ended because": dg.MetadataValue.text(report.reason), **counts}
