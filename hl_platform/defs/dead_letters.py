"""Reprocessing as an asset, and the schedule that retries what a newer version or declaration may accept."""

from collections.abc import Mapping
from datetime import datetime

import dagster as dg
import msgspec

from hl_platform.adapters.postgres.dead_letters import DeadLetterIndex
from hl_platform.adapters.postgres.replay_requests import ReplayRequests
from hl_platform.core.dead_letter_index import EntryGroup, Selection
from hl_platform.core.errors import ConfigError, HlError, TransientError
from hl_platform.core.replay_requests import Replayed
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.defs.lineage import dead_letter_key
from hl_platform.pipeline.reprocess import Outcome, Progress, rejected_unlike_now, reprocessing
from hl_platform.pipeline.verdicts import VerdictCounts, count_verdicts

KEY = dg.AssetKey(["hl", "reprocessed_dead_letters"])
JOB = "reprocess_dead_letters"
# After housekeeping; whoever updated hl by day has his dead letters tried in the night.
AT = "40 3 * * *"
# Rows of the tables that a materialization shows.
MAX_GROUPS = 50


class ReprocessConfig(dg.Config):
    """Which dead letters, and whether only to look. Times are ISO 8601 with an offset, half-open.

    A `request_id` is what somebody asked for over the API: it says which, by itself.
    """

    stream: str = ""
    fingerprint: str = ""
    device_id: str = ""
    since: str = ""
    until: str = ""
    everything: bool = False
    rejected_by_others: bool = False
    dry_run: bool = True
    request_id: int = 0


def build_dead_letters(settings: Settings, streams: Mapping[str, Stream]) -> dg.Definitions:
    """The asset, its job and its schedule."""
    asset = build_asset(settings, streams)
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(KEY),
        description="Replays dead letters; without configuration it is refused, and by default a dry run.",
    )
    return dg.Definitions(assets=[asset], jobs=[job], schedules=[build_schedule(settings, streams)])


def build_asset(settings: Settings, streams: Mapping[str, Stream]) -> dg.AssetsDefinition:
    """The asset that stands for what was replayed."""

    @dg.asset(
        key=KEY,
        deps=[dead_letter_key(stream) for stream in streams.values()],
        group_name="dead_letters",
        kinds={"kafka"},
        owners=["team:home"],
        description=(
            "Dead letters, selected by stream, fingerprint, device or time and replayed through the same "
            "validation and the same idempotent path as every reading. A dry run (the default) shows what would "
            "succeed; replaying twice changes nothing."
        ),
    )
    def reprocessed_dead_letters(
        context: dg.AssetExecutionContext, config: ReprocessConfig
    ) -> dg.MaterializeResult[None]:
        if config.request_id:
            return dg.MaterializeResult(
                metadata=replay_requested(context, config.request_id, settings, streams)
            )
        selection = selection_of(config, streams)
        with reprocessing(settings, streams, _log_progress(context)) as work:
            if config.dry_run:
                return dg.MaterializeResult(metadata=describe_plan(count_verdicts(work.plan(selection))))
            outcome = work.apply(selection, f"dagster run {context.run.run_id}")
            return dg.MaterializeResult(metadata=_shown(outcome, settings))

    return reprocessed_dead_letters


def build_schedule(settings: Settings, streams: Mapping[str, Stream]) -> dg.ScheduleDefinition:
    """Every night, what another version of hl or another declaration rejected is tried once."""

    @dg.schedule(
        name="retry_dead_letters_daily",
        job_name=JOB,
        cron_schedule=AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Replays what another version of hl, or another declaration of its stream, rejected.",
    )
    def retry_dead_letters_daily() -> dg.RunRequest | dg.SkipReason:
        index = DeadLetterIndex(require_address(settings.database.url, "database", "url"), "hl-schedule")
        try:
            n, _ = index.count(rejected_unlike_now(streams.values()))
        except TransientError as exc:
            return dg.SkipReason(f"The database cannot be reached: {exc}")
        finally:
            index.close()
        if n == 0:
            return dg.SkipReason("Everything that was rejected was rejected by this version and declaration.")
        config = ReprocessConfig(rejected_by_others=True, dry_run=False)
        return dg.RunRequest(run_config=dg.RunConfig(ops={KEY.to_python_identifier(): config}))

    return retry_dead_letters_daily


def selection_of(config: ReprocessConfig, streams: Mapping[str, Stream]) -> Selection:
    """What a configuration selects.

    Raises:
        ConfigError: it selects nothing, or contradicts itself; the message says what to give.
    """
    if config.rejected_by_others:
        return rejected_unlike_now(streams.values())
    if config.stream and config.stream not in streams:
        raise ConfigError(f"stream={config.stream!r} is not one of {', '.join(streams)}.")
    chosen = Selection(
        stream=config.stream or None,
        fingerprint=config.fingerprint or None,
        device_id=config.device_id or None,
        since=_moment("since", config.since),
        until=_moment("until", config.until),
    )
    if (chosen == Selection()) != config.everything:
        raise ConfigError(
            "Give stream, fingerprint, device_id, since or until to select dead letters, or everything=true "
            "without any of them."
        )
    return chosen


def describe_plan(verdicts: VerdictCounts) -> dict[str, dg.MetadataValue]:
    """What a dry run shows."""
    records = [
        dg.TableRecord(
            {
                "outcome": group.kind,
                "count": group.n,
                "stream": group.stream,
                "reason": group.reason,
                "example": f"{group.example_id}: {group.example_detail[:200]}",
            }
        )
        for group in verdicts.groups[:MAX_GROUPS]
    ]
    return {
        "dry run": dg.MetadataValue.bool(True),
        "selected": dg.MetadataValue.int(verdicts.n),
        "would succeed": dg.MetadataValue.int(verdicts.n_accepted),
        "by outcome": _table(records, "outcome", "count", "stream", "reason", "example"),
    }


def describe_outcome(outcome: Outcome, failures: list[EntryGroup]) -> dict[str, dg.MetadataValue]:
    """What a replay shows."""
    records = [
        dg.TableRecord(
            {
                "count": group.n,
                "stream": group.stream,
                "reason": group.reason,
                "example": f"{group.example_id}: {group.example_detail[:200]}",
            }
        )
        for group in failures
    ]
    return {
        "dry run": dg.MetadataValue.bool(False),
        "selected": dg.MetadataValue.int(outcome.n_selected),
        "stored": dg.MetadataValue.int(outcome.n_stored),
        "failed again": dg.MetadataValue.int(outcome.n_failed_again),
        "cannot be replayed": dg.MetadataValue.json(dict(outcome.impossible)),
        "complete": dg.MetadataValue.bool(outcome.complete),
        "failed again because": _table(records, "count", "stream", "reason", "example"),
    }


def replay_requested(
    context: dg.AssetExecutionContext, request_id: int, settings: Settings, streams: Mapping[str, Stream]
) -> dict[str, dg.MetadataValue]:
    """Replays what was asked for over the API, and tells whoever asked how far it is and what became of it.

    Raises:
        ConfigError: there is no such request.
        TransientError: Kafka or the database is away; the request has failed.
    """
    url = require_address(settings.database.url, "database", "url")
    store = ReplayRequests(url, "hl-reprocess")
    request = store.find(request_id)
    if request is None:
        raise ConfigError(f"request_id={request_id} is not the number of a request in hl.replay_requests.")

    def report(step: str, done: int, total: int) -> None:
        context.log.info("%s %s of %s", step, done, total)
        store.note_progress(request_id, step, done, total)

    store.begin(request_id, context.run.run_id)
    try:
        with reprocessing(settings, streams, report) as work:
            outcome = work.apply(request.selection, f"{request.requested_by}, request {request_id}")
    except HlError as exc:
        store.end(request_id, problem=str(exc))
        raise
    store.end(request_id, replayed=msgspec.convert(outcome.document(), Replayed))
    return _shown(outcome, settings)


def _shown(outcome: Outcome, settings: Settings) -> dict[str, dg.MetadataValue]:
    index = DeadLetterIndex(require_address(settings.database.url, "database", "url"), "hl-reprocess")
    try:
        failed = Selection(states=("failed_again",), replay_id=outcome.replay_id)
        return describe_outcome(outcome, index.groups(failed, MAX_GROUPS))
    finally:
        index.close()


def _table(records: list[dg.TableRecord], *columns: str) -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        [dg.TableColumn(name, "int" if name == "count" else "string") for name in columns]
    )
    return dg.MetadataValue.table(records, schema=schema)


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigError(f"{name}={text!r} is not a time. Write 2026-01-31T08:00:00+01:00.") from exc
    if moment.tzinfo is None:
        raise ConfigError(f"{name}={text!r} has no offset. Write {text}Z for UTC.")
    return moment


def _log_progress(context: dg.AssetExecutionContext) -> Progress:
    def report(step: str, done: int, total: int) -> None:
        context.log.info("%s %s of %s", step, done, total)

    return report
