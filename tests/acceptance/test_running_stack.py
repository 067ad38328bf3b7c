"""A whole stack by one command: what flows, what comes back, what stays."""

import json
import os
import signal
import urllib.request

import psutil
import pytest

from hl_platform.stack.lock import lives
from tests.acceptance.conftest import Installation, wait_until

SUPERVISED = (
    "postgres",
    "kafka",
    "mosquitto",
    "dagster-code",
    "dagster-web",
    "dagster-daemon",
    "live",
    "simulator",
)
STAGE_KEYS = {
    *("name", "received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped", "in_flight"),
}


def _rows(installation: Installation) -> int:
    done = installation.run("psql", "-At", "-c", "select count(*) from energy_readings")
    return int(done.stdout) if done.returncode == 0 else -1


def test_every_service_runs(running: Installation) -> None:
    states = {name: service["state"] for name, service in running.services().items()}
    assert states == dict.fromkeys((*SUPERVISED, "bridge", "sink"), "running")


def test_services_have_a_living_process(running: Installation) -> None:
    services = running.services().values()
    assert [service["name"] for service in services if not psutil.pid_exists(service["pid"])] == []


def test_readings_become_rows(running: Installation) -> None:
    wait_until("the simulated home's readings are rows", lambda: _rows(running) > 0)


def test_readings_are_on_the_api(running: Installation) -> None:
    url = f"http://127.0.0.1:{running.environment['HL_LIVE__PORT']}/api/v1/energy/latest"

    def devices() -> set[str]:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return {reading["device_id"] for reading in json.load(answer)["readings"]}

    wait_until("both meters are on the API", lambda: devices() == {"meter1", "meter2"})


def test_status_counts_what_every_stage_did(running: Installation) -> None:
    wait_until("every stage has received", lambda: all(map(running.received, ("bridge", "sink", "live"))))
    assert {frozenset(stage) for stage in running.status()["stages"]} == {frozenset(STAGE_KEYS)}


def test_status_knows_the_lag_of_every_group(running: Installation) -> None:
    streams = ("energy", "heatpump", "temperature")
    groups = {f"timescaledb-{stream}" for stream in streams} | {f"{stream}-ws" for stream in streams}
    groups.add("hl-dead-letters")
    wait_until("every group has a position", lambda: set(running.status()["lag"]) == groups)


def test_status_knows_both_delays(running: Installation) -> None:
    def measured() -> bool:
        delays = running.status()["delay_ms"]
        return all(delays[measure]["p99"] is not None for measure in ("device_to_row", "device_to_frame"))

    wait_until("delays have been measured", measured)


def test_a_probe_comes_through_every_stage_beside_the_simulated_home(running: Installation) -> None:
    done = running.run("check")
    assert (done.returncode, "Kafka to frame" in done.stdout) == (0, True), done.stdout + done.stderr


def test_top_and_lag_show_the_running_stack(running: Installation) -> None:
    top, lag = running.run("top", "--once"), running.run("lag")
    assert (top.returncode, "timescaledb-energy" in top.stdout, "mosquitto" in top.stdout) == (0, True, True)
    assert (lag.returncode, "homelab.energy" in lag.stdout) == (0, True)


def test_status_is_readable_for_people(running: Installation) -> None:
    done = running.run("status")
    assert (done.returncode, "bridge" in done.stdout, "timescaledb-energy" in done.stdout) == (0, True, True)


def test_logs_of_a_service_are_shown(running: Installation) -> None:
    done = running.run("logs", "postgres")
    assert (done.returncode, "database system is ready" in done.stdout) == (0, True)


def test_unknown_log_names_those_that_there_are(running: Installation) -> None:
    done = running.run("logs", "nobody")
    assert (done.returncode, "mosquitto" in done.stderr) == (2, True)


def test_second_hl_on_the_same_data_says_who_has_it(running: Installation) -> None:
    done = running.run("up")
    assert (done.returncode, f"pid {running.supervisor()}" in done.stderr) == (2, True)


def test_passwords_are_shown_only_when_asked_for(running: Installation) -> None:
    secrets = [path.read_text() for path in (running.data_dir / "secrets").iterdir()]
    shown = running.run("status").stdout + running.run("logs").stdout
    assert [secret for secret in secrets if secret in shown] == []


@pytest.mark.parametrize("name", SUPERVISED)
def test_killed_process_comes_back_and_readings_flow_again(running: Installation, name: str) -> None:
    before = running.services()[name]["pid"]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        service = running.services().get(name, {})
        return service.get("state") == "running" and service.get("pid") not in (None, before)

    wait_until(f"{name} runs again", is_back)
    rows = _rows(running)
    wait_until("rows arrive again", lambda: rows >= 0 and _rows(running) > rows)


def test_hl_started_right_after_a_kill_waits_for_what_is_left_and_has_all_rows(running: Installation) -> None:
    rows, old = _rows(running), running.processes()
    os.kill(running.supervisor(), signal.SIGKILL)
    foreground = running.start("up")
    try:
        assert foreground.stdout is not None
        seen = next((line for line in foreground.stdout if "Ctrl-C stops it" in line), "")
        assert seen
        assert [process for process in old if lives(process)] == []
        assert _rows(running) >= rows
    finally:
        foreground.send_signal(signal.SIGINT)
        rest, _ = foreground.communicate(timeout=60)
    assert (foreground.returncode, "hl has stopped" in rest) == (0, True)


def test_stopped_hl_leaves_no_process_and_says_what_has_stopped(running: Installation) -> None:
    # The test before has stopped it, if it has run.
    assert running.run("down").returncode == 0
    assert running.run("up", "--detach", "--no-simulator").returncode == 0
    assert "simulator" not in running.services()
    done = running.run("down")
    assert (done.returncode, running.processes()) == (0, [])
    stopped = {
        line.removesuffix(": stopped") for line in done.stdout.splitlines() if line.endswith(": stopped")
    }
    assert stopped == {*SUPERVISED, "bridge", "sink"} - {"simulator"}
    assert ": running" not in done.stdout
