"""A stream that somebody declares works from the device to the table without a line of Python."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.streams import load_streams
from tests.home import Home, eventually

SOLAR = """
name = "{prefix}"
title = "Solar panels"
mqtt_filter = "{prefix}/solar/#"
kafka_topic = "{prefix}.solar"
table = "solar_readings"

[fields.yield_kwh]
type = "float"
kind = "counter"
unit = "kWh"
required = true

[fields.inverter_state]
type = "text"
kind = "state"
"""


def test_a_declared_stream_works_end_to_end(home: Home, tmp_path: Path):
    (tmp_path / "solar.toml").write_text(SOLAR.format(prefix=home.prefix))
    home.env |= {"HL_STREAMS_DIR": str(tmp_path)}
    streams = load_streams(home.settings.streams_dir)
    migrate(home.env["HL_DATABASE__URL"], None, streams.values())
    ensure_topics(home.settings.kafka, streams.values())
    home.streams["solar"] = streams[home.prefix]
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    payload = msgspec.json.encode(
        {"timestamp": noon, "yield_kwh": 812.5, "inverter_state": "on", "wifi": -61}
    )

    services = [
        subprocess.Popen([sys.executable, "-m", "hl_platform.pipeline", name], env={**os.environ, **home.env})
        for name in ("bridge", "sink")
    ]
    try:
        eventually(lambda: home.has_bridge("solar"))
        home.publish((home.topic("roof", "solar"), payload))
        row = "select device_id, timestamp, yield_kwh, inverter_state, extra from solar_readings"
        rows = eventually(lambda: home.query(f"{row} where device_id = 'roof'"))
    finally:
        for service in services:
            service.send_signal(signal.SIGTERM)
        codes = [service.wait(timeout=30) for service in services]
    assert rows == [("roof", noon, 812.5, "on", {"wifi": -61})]
    assert codes == [0, 0]
