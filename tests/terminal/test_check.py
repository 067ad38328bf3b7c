"""`hl check` on a household of processes: it comes through when all is well, and names the stage that is not."""

import pytest

from tests.terminal.flow import Flow

# For what is to come; what cannot come is known sooner, but behind a service that has stopped.
LIMIT_S = "10"


def outcomes(flow: Flow, *arguments: str) -> dict[str, str]:
    document = flow.hl_json("check", "--limit", LIMIT_S, *arguments)
    return {stage["stage"]: stage["outcome"] for stage in document["stages"] if stage["stream"] == "energy"}


def came(outcome: str) -> bool:
    # How long it took is the machine's affair.
    return outcome in ("ok", "slow")


def test_probe_of_every_stream_comes_through_every_stage(flow: Flow):
    document = flow.hl_json("check")
    assert {stage["stream"] for stage in document["stages"]} == set(flow.streams)
    assert all(came(stage["outcome"]) for stage in document["stages"])
    assert (document["ok"], document["advice"]) == (True, [])


def test_person_sees_each_delay_beside_its_budget(flow: Flow):
    done = flow.hl("check", "energy")
    assert done.exit_code == 0
    lines = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines()}
    assert {lines[title][-1] for title in ("device to MQTT", "MQTT to Kafka", "Kafka to row")} == {
        "100",
        "200",
        "500",
    }
    assert lines["in all"][-1] == "1,000"


def test_probe_is_in_no_table_of_readings_no_answer_and_no_aggregate(flow: Flow):
    assert flow.hl("check").exit_code == 0
    for stream in flow.streams.values():
        assert flow.query(f"select count(*) from {stream.table} where device_id = 'hl-probe'")  # noqa: S608 == [(0,)]
        latest = flow.get(f"/api/v1/{stream.name}/latest").raise_for_status().json()
        assert "hl-probe" not in {one["device_id"] for one in latest["readings"]}
    assert flow.query("select count(*) from hl.dirty where device_id = 'hl-probe'") == [(0,)]


def test_probe_is_removed_afterwards(flow: Flow):
    assert flow.hl("check").exit_code == 0
    assert flow.query("select count(*) from hl.probes") == [(0,)]


def test_page_that_shows_all_devices_gets_no_probe(flow: Flow):
    with flow.subscribe() as client:
        assert flow.hl("check", "energy").exit_code == 0
        flow.produce("meter1", [1.0])
        assert '"meter1"' in str(client.recv(30))


def test_accounts_hold_the_probe_as_any_reading(flow: Flow):
    def forwarded() -> int:
        return int(
            flow.query("select forwarded from hl.accounts where service = 'sink' and stream = 'heatpump'")[0][
                0
            ]
        )

    before = forwarded()
    assert flow.hl("check", "heatpump").exit_code == 0
    assert forwarded() == before + 1


@pytest.mark.parametrize(
    ("service", "failed", "reached"),
    [("bridge", "kafka", ["mqtt"]), ("sink", "row", ["mqtt", "kafka", "frame"])],
)
def test_stopped_service_is_named_with_its_log(flow: Flow, service: str, failed: str, reached: list[str]):
    with flow.without(service):
        seen = outcomes(flow)
        done = flow.hl("check", "energy", "--limit", "2")
    assert [stage for stage, outcome in seen.items() if outcome == "failed"] == [failed]
    assert [stage for stage, outcome in seen.items() if came(outcome)] == reached
    assert done.exit_code == 1
    assert f"{service} is stopped." in done.stdout
    assert f"hl logs {service}" in done.stdout


def test_live_service_that_is_away_is_named_with_its_log(flow: Flow):
    with flow.without("live"):
        seen = outcomes(flow)
        done = flow.hl("check", "energy", "--limit", LIMIT_S)
    assert [stage for stage, outcome in seen.items() if outcome == "failed"] == ["frame"]
    assert (done.exit_code, "hl logs live" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("setting", "address", "failed"),
    [
        ("HL_MQTT__PORT", "1", "mqtt"),
        ("HL_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1", "kafka"),
        ("HL_DATABASE__URL", "postgresql://hl@127.0.0.1:1/hl", "row"),
        ("HL_LIVE__PORT", "1", "frame"),
    ],
)
def test_server_that_does_not_answer_is_the_stage_that_failed(
    flow: Flow, setting: str, address: str, failed: str
):
    done = flow.hl("check", "energy", "--limit", LIMIT_S, **{setting: address})
    server = {"mqtt": "mosquitto", "row": "postgres", "frame": "live"}.get(failed, failed)
    assert (done.exit_code, f"hl logs {server}" in done.stdout) == (1, True)


def test_unknown_stream_is_answered_with_those_there_are(flow: Flow):
    done = flow.hl("check", "solar")
    assert (done.exit_code, "energy" in done.stderr) == (2, True)


def test_without_a_stack_it_says_how_to_start_one(flow: Flow, tmp_path_factory: pytest.TempPathFactory):
    done = flow.hl("check", HL_MQTT__HOST="", HL_DATA_DIR=str(tmp_path_factory.mktemp("none")))
    assert (done.exit_code, done.stdout) == (2, "")
