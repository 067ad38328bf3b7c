import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from hl_platform.adapters.postgres.alerts import Alert
from hl_platform.adapters.postgres.balance_store import Balance
from hl_platform.adapters.postgres.status import PipelineStatus, ServiceHolder
from hl_platform.stack.state import ProgramState
from hl_platform.stack.status import list_services, print_alerts, print_balances


def holder(service: str, *, released: bool, beat_age_s: float = 0.2) -> ServiceHolder:
    return ServiceHolder(
        service=service,
        stage="bridge",
        host="here",
        pid=7,
        uptime_s=5.0,
        beat_age_s=beat_age_s,
        released=released,
    )


def states(holders: list[ServiceHolder]) -> dict[object, object]:
    programs = [
        ProgramState("kafka", "running", 3, since=0.0),
        ProgramState("bridge-1", "running", 7, since=0.0),
    ]
    return {row["name"]: row["state"] for row in list_services(programs, holders, stale_after_s=3.0)}


def test_a_service_is_shown_as_its_lease_says():
    assert states([holder("bridge-1", released=False)])["bridge-1"] == "running"
    assert states([holder("bridge-1", released=True)])["bridge-1"] == "stopped"
    assert states([holder("bridge-1", released=False, beat_age_s=9.0)])["bridge-1"] == "stale"


def test_a_service_of_an_earlier_layout_is_not_shown():
    assert states([holder("bridge", released=True), holder("bridge-1", released=False)]) == {
        "kafka": "running",
        "bridge-1": "running",
    }


NOW = datetime.now(UTC)
NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def shown(pipeline: PipelineStatus) -> str:
    """What `hl status` says about balances and alerts, in one line."""
    document = pipeline.document({})
    console = Console(width=1_000, file=io.StringIO(), record=True)
    print_balances(console, document["balances"])  # type: ignore[arg-type] # lists of documents
    print_alerts(console, document["alerts"])  # type: ignore[arg-type]
    return console.export_text().strip()


def balance(stage: str, n_records: int = 0, found_at: datetime | None = None) -> Balance:
    balanced_at = found_at - timedelta(minutes=1) if found_at else None
    return Balance("energy", stage, n_records, "Why.", NOW, 5.0, balanced_at, found_at)


def test_accounts_that_balance_are_said_to():
    text = shown(PipelineStatus([], [], {}, {}, [balance("bridge"), balance("sink")]))
    assert text.startswith("Accounts balance, as of ")


def test_accounts_that_do_not_balance_are_named_with_stage_amount_and_interval():
    text = shown(PipelineStatus([], [], {}, {}, [balance("bridge"), balance("sink", 3, NOON)]))
    assert text.startswith(
        "Accounts of energy differ by 3 at sink, between 2026-01-03 11:59:00 and 2026-01-03 12:00:00 UTC; as of "
    )
    assert text.endswith("Why.")


def test_nothing_is_said_of_accounts_that_were_never_compared():
    assert shown(PipelineStatus([], [], {}, {})) == ""


def test_an_alert_is_shown_with_what_helps_and_whether_its_service_still_runs():
    alert = Alert("bridge", "", "spool_full", "The spool is full. Make room.", NOON, is_of_the_dead=False)
    assert shown(PipelineStatus([], [], {}, {}, [], [alert])) == (
        "bridge: The spool is full. Make room. (spool_full, since 2026-01-03 12:00:00 UTC)"
    )
    old = alert._replace(stream="energy", is_of_the_dead=True)
    assert "bridge, energy: The spool is full. Make room. (bridge does not run; as it said last.)" in shown(
        PipelineStatus([], [], {}, {}, [], [old])
    )
