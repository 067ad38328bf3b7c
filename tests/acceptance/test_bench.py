"""The measurements work: small, and with their proofs. Their figures are for `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Installation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("stage", "options", "beside"),
    [
        (
            "bridge",
            ("--n", "5000", "--repeat", "1", "--sustain", "1"),
            {"socket", "paho", "librdkafka", "mq-bridge"},
        ),
        (
            "sink",
            ("--readings", "5000", "--repeat", "1"),
            {
                "hl without marks",
                "plain COPY",
                "mq-bridge ON CONFLICT",
                "mq-bridge bulk COPY",
                "single INSERTs",
            },
        ),
        ("feed", ("--clients", "5", "--rates", "20", "--seconds", "1"), {"websockets.broadcast()"}),
    ],
)
def test_a_stage_is_measured_beside_its_peers(
    stage: str, options: tuple[str, ...], beside: set[str], tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", stage, *options, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert {one["beside"] for one in found["comparisons"]} == beside
    assert all(one["hl"]["median"] > 0 and one["theirs"]["median"] > 0 for one in found["comparisons"])
    assert found["machine"]["n_cores"] > 0


def test_delays_are_measured_beside_a_running_stack_with_their_proof(
    running: Installation, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "delay", "--rates", "5,50", "--seconds", "2"]
    done = subprocess.run(
        [*command, "--json", str(figures)],
        env=running.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # Goals and a steady publisher are for a machine that does nothing else: here they may be missed, but no reading.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(figures.read_text())["rates"]
    assert [one["n_sent"] for one in found] == [10, 100]
    reasons = [reason for one in found for reason in one["wrong"]]
    assert [one for one in reasons if not one.startswith(("p99 of", "the publisher fell behind"))] == []
