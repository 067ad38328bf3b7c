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


def test_scale_is_measured_with_its_proof(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    small = (
        "--readings",
        "2000",
        "--repeat",
        "1",
        "--devices",
        "10,100",
        "--processes",
        "1,2",
        "--rows",
        "1000",
    )
    command = [sys.executable, "-m", "bench", "scale", *small, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [(one["series"], one["number"]) for one in json.loads(figures.read_text())["points"]]
    assert found == [
        ("bridge, devices", 10),
        ("bridge, devices", 100),
        ("bridges", 1),
        ("bridges", 2),
        ("sink, devices", 10),
        ("sink, devices", 100),
        ("sink, each the first of its device's hour", 100),
        ("sinks", 1),
        ("sinks", 2),
        ("sink, rows there before", 1000),
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("delay", "--rates", "5,50", "--seconds", "2"),
        ("feed-stack", "--clients", "20", "--frames", "10", "--rate", "100", "--seconds", "2"),
    ],
)
def test_a_running_stack_is_measured_with_its_proof(
    options: tuple[str, ...], running: Installation, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options, "--json", str(figures)],
        env=running.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(figures.read_text())
    reasons = [reason for one in found.get("rates", [found]) for reason in one["wrong"]]
    # Goals and a steady publisher are for a machine that does nothing else: here they may be missed, but no reading.
    assert [one for one in reasons if "goal" not in one and "fell behind" not in one] == []
