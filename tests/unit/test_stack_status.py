from hl_platform.adapters.postgres.status import ServiceHolder
from hl_platform.stack.state import ProgramState
from hl_platform.stack.status import list_services


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
