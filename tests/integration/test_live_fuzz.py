"""The API against its own OpenAPI document: schemathesis asks whatever that allows, and much that it does not."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.integration.live_service import LiveProcess
from tests.integration.test_live_access import create
from tests.servers import temporary_database

AT = datetime(2026, 1, 3, 10, tzinfo=UTC)
# A valid request may still be refused: an end before its start, a zone that nobody has. And who shows wrong tokens is
# locked out, which is what other tests are for.
LEFT_OUT = "positive_data_acceptance,ignored_auth"
N_EXAMPLES = 8
# The answer does not end.
ENDLESS = "/api/v1/feed/events"


@pytest.fixture
def live(postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[LiveProcess]:
    with temporary_database(postgres, "live_fuzz") as database:
        env = {"HL_TIMEZONE": "Europe/Berlin", "HL_AUTH__REQUIRED": "true"}
        live = LiveProcess(tmp_path, database.url, kafka.bootstrap_servers, **env)
        live.make_tables()
        live.make_models()
        live.make_topics()
        live.store("meter1", *((AT + timedelta(minutes=n), 100.0 + n / 10, 1.5) for n in range(90)))
        live.token = create(live, "everything", "read:*", "replay:dead-letters")
        live.start_reading()
        live.produce("meter1", [110.0])
        yield live
        live.close()


@pytest.mark.timeout(600)
def test_no_request_has_an_answer_that_is_not_documented(live: LiveProcess, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run"),
        *(f"http://127.0.0.1:{live.port}/docs/openapi.json", "--exclude-path", ENDLESS),
        *("--header", f"Authorization: Bearer {live.token}"),
        *("--checks", "all", "--exclude-checks", LEFT_OUT),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(N_EXAMPLES)),
        *("--generation-deterministic", "--continue-on-failure", "--no-color", "--warnings", "off"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    # What it found out about the service, the service did not find a fault.
    assert '"request_failed"' not in live.log()
