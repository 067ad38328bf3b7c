"""What `hl up` and `hl migrate` bring a database and Kafka to."""

import threading
from pathlib import Path

from structlog.testing import capture_logs

from hl_platform.core.settings import load_settings
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.prepare import prepare_data
from tests.integration.live_service import LiveProcess

MINE = """/*
name: mine
description: Of the hours.
materialization: view
grain: [bucket]
columns: {bucket: Hour}
*/
select bucket from {{ ref('energy_hourly') }}
"""


def test_a_model_whose_file_is_gone_is_named_in_the_log(
    database_url: str, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.sql").write_text(MINE)
    live = LiveProcess(tmp_path, database_url, kafka.bootstrap_servers, HL_MODELS_DIR=str(models))
    said: list[str] = []
    prepare_data(load_settings(live.env), said.append, threading.Event())
    (models / "mine.sql").unlink()
    with capture_logs() as logged:
        prepare_data(load_settings(live.env), said.append, threading.Event())
    retired = [line for line in logged if line["event"] == "model_retired"]
    assert [(line["log_level"], line["model"]) for line in retired] == [("warning", "mine")]
