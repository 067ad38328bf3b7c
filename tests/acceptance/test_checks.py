"""What keeps hl from running is said in one sentence, with the remedy, before anything has started."""

import re
import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Installation


def _assert_nothing_started(installation: Installation) -> None:
    assert not list((installation.data_dir / "logs").glob("*.log"))


@pytest.mark.parametrize(
    ("variable", "purpose"),
    [
        ("HL_LIVE__PORT", "the page and the API"),
        ("HL_DAGSTER__PORT", "Dagster"),
        ("HL_MQTT__PORT", "MQTT"),
        ("HL_KAFKA__PORT", "Kafka"),
        ("HL_DATABASE__PORT", "PostgreSQL"),
    ],
)
def test_taken_port_is_named_with_who_has_it_and_the_setting_that_moves_it(
    installation: Installation, variable: str, purpose: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(installation.environment[variable])))
        taken.listen()
        done = installation.run("up")
    assert done.returncode == 2
    assert re.search(rf"Port \d+ for {purpose} is taken by \S+, pid \d+\. .*{variable}", done.stderr)
    _assert_nothing_started(installation)


def test_port_given_twice_is_an_error(installation: Installation) -> None:
    done = installation.run("up", HL_LIVE__PORT="18123", HL_DAGSTER__PORT="18123")
    assert (done.returncode, "HL_LIVE__PORT" in done.stderr, "HL_DAGSTER__PORT" in done.stderr) == (
        2,
        True,
        True,
    )


def test_missing_java_is_said_with_the_command_to_get_it(installation: Installation, tmp_path: Path) -> None:
    done = installation.run("up", PATH=str(tmp_path), JAVA_HOME="")
    assert done.returncode == 2
    assert done.stderr.startswith("Java is missing. Run `apt-get install default-jre-headless`")
    _assert_nothing_started(installation)


def test_java_that_is_too_old_is_said(installation: Installation, tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.27\" 2025-04-15' >&2\n")
    old.chmod(0o755)
    done = installation.run("up", PATH=str(tmp_path), JAVA_HOME="")
    assert done.returncode == 2
    assert "is Java 11, and Kafka needs 17 or newer" in done.stderr


def test_wrong_setting_ends_with_exit_code_2_and_what_is_allowed(installation: Installation) -> None:
    done = installation.run("up", HL_MQTT__PORT="no")
    assert (done.returncode, "HL_MQTT__PORT='no' is not allowed" in done.stderr) == (2, True)


def test_data_directory_that_cannot_be_made_is_said(installation: Installation) -> None:
    done = installation.run("up", HL_DATA_DIR="/proc/hl")
    assert done.returncode == 2
    assert "HL_DATA_DIR='/proc/hl' cannot be used" in done.stderr


def test_commands_say_that_nothing_runs(installation: Installation) -> None:
    done = installation.run("status")
    assert (done.returncode, done.stderr) == (1, "hl is not running. Start it with `hl up`.\n")


def test_down_without_a_running_hl_is_no_error(installation: Installation) -> None:
    done = installation.run("down")
    assert (done.returncode, done.stdout) == (0, "hl is not running.\n")
