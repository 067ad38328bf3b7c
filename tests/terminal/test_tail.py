"""`hl tail` on a running household, as a person runs it."""

import signal
import subprocess

import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.mqtt.client import disconnect
from tests.home import PATIENCE_S, eventually
from tests.terminal.flow import Flow

READING = b'{"timestamp": "2026-01-03T16:00:00.5Z", "total_energy_kwh": 12.45, "power_kw": 3.2}'


def publish(flow: Flow, device_id: str, payload: bytes = READING) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect(flow.env["HL_MQTT__HOST"], int(flow.env["HL_MQTT__PORT"]))
    client.loop_start()
    try:
        client.publish(f"{flow.prefix}/energy/{device_id}", payload, 1).wait_for_publish(PATIENCE_S)
    finally:
        disconnect(client)


def lines_of(flow: Flow, *arguments: str, device_id: str, payload: bytes = READING) -> list[str]:
    """What it shows when readings are published until it has had enough."""
    terminal = flow.start_hl("tail", *arguments)

    def ended() -> bool:
        publish(flow, device_id, payload)
        return terminal.poll() is not None

    try:
        eventually(ended)
        shown, said = terminal.communicate()
    finally:
        terminal.kill()
        terminal.wait()
    assert (terminal.returncode, said) == (0, "")
    return shown.splitlines()


@pytest.mark.parametrize("stage", ["mqtt", "kafka", "rows", "feed"])
def test_reading_is_shown_at_each_stage_with_its_units(flow: Flow, stage: str):
    device_id = f"tail-{stage}"
    # A stored row is shown for each record that brought it.
    arguments = (stage, "energy", "--device", device_id, "--count", "2")
    lines = lines_of(flow, *arguments, device_id=device_id)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"2026-01-03 16:00:00.500  {device_id}")
        assert "total_energy_kwh 12.45 kWh, power_kw 3.2 kW" in line
        assert line.endswith("]")


def test_rejected_reading_is_shown_with_the_reason(flow: Flow):
    [line] = lines_of(
        flow, "dead-letters", "--device", "broken", "--count", "1", device_id="broken", payload=b"{no"
    )
    assert "not_json (bridge)" in line
    assert "{no" in line


@pytest.mark.parametrize("stage", ["mqtt", "kafka", "rows", "feed", "dead-letters"])
def test_ctrl_c_ends_it_cleanly_also_when_nothing_comes(flow: Flow, stage: str):
    terminal = flow.start_hl("tail", stage, "heatpump")
    try:
        # Ready once it has a client of its own; until then an interrupt meets Python's start.
        eventually(lambda: len(_sockets(terminal)) > 0 or terminal.poll() is not None)
        terminal.send_signal(signal.SIGINT)
        _, said = terminal.communicate(timeout=PATIENCE_S)
    finally:
        terminal.kill()
        terminal.wait()
    assert (terminal.returncode, said) == (0, "")


def test_it_takes_no_reading_from_the_sink_and_joins_no_group(flow: Flow):
    before = flow.hl_json("lag")
    lines_of(flow, "kafka", "energy", "--device", "tail-group", "--count", "1", device_id="tail-group")
    groups = {place["consumer_group"] for place in flow.hl_json("lag")}
    assert groups == {place["consumer_group"] for place in before}
    eventually(lambda: flow.query("select 1 from energy_readings where device_id = 'tail-group'"))


def test_feed_that_is_away_is_one_clear_sentence(flow: Flow):
    done = flow.hl("tail", "feed", "energy", HL_LIVE__PORT="1")
    assert (done.exit_code, "no live service answers" in done.stderr) == (1, True)


def _sockets(terminal: subprocess.Popen[str]) -> list[object]:
    try:
        return list(psutil.Process(terminal.pid).net_connections("tcp"))
    except psutil.NoSuchProcess:
        return []
