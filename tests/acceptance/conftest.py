"""The `hl` command as a user runs it: by subprocess, on free ports, in a directory of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hl_platform.stack.net import free_port
from tests.servers import temporary_layout

HL = (sys.executable, "-m", "hl_platform.cli")
PORTS = ("HL_LIVE__PORT", "HL_DAGSTER__PORT", "HL_MQTT__PORT", "HL_KAFKA__PORT", "HL_DATABASE__PORT")


class Installation:
    """A data directory and ports of its own, and the `hl` command on them."""

    def __init__(self, data_dir: Path, overrides: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        # What the developer has set for an own stack must not reach this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HL_")}
        self.environment = {
            **inherited,
            "HL_DATA_DIR": str(data_dir),
            **{name: str(free_port()) for name in PORTS},
            **(overrides or {}),
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            [*HL, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Runs a command in the background, as in a terminal of its own."""
        return subprocess.Popen(
            [*HL, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def status(self) -> dict[str, Any]:
        """`hl status --json`."""
        document: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return document

    def services(self) -> dict[str, dict[str, Any]]:
        """The services by name."""
        return {service["name"]: service for service in self.status()["services"]}

    def received(self, stage: str) -> int:
        """How many readings a stage has received."""
        return sum(entry["received"] for entry in self.status()["stages"] if entry["name"] == stage)

    def supervisor(self) -> int:
        """The pid of `hl up`."""
        return int((self.data_dir / "lock").read_text())

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to the data directory."""
        mine = str(self.data_dir)
        return [
            process
            for process in psutil.process_iter(["environ", "cwd", "cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and process.pid != os.getpid()
            and (
                (process.info["environ"] or {}).get("HL_DATA_DIR") == mine
                or str(process.info["cwd"]).startswith(mine)
            )
        ]

    def end(self) -> None:
        """Ends whatever is left, by pid."""
        if self.data_dir.exists():
            self.run("down")
        for process in self.processes():
            process.send_signal(signal.SIGKILL)


@contextmanager
def temporary_installation(overrides: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """An installation that is ended and removed afterwards."""
    with temporary_layout() as layout:
        installation = Installation(layout.data_dir, overrides)
        try:
            yield installation
        finally:
            installation.end()


def wait_until(promise: str, condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Returns once the condition holds; fails with the promise otherwise."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {timeout_s:g} s: {promise}")
        time.sleep(0.2)


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation that nothing runs in yet."""
    with temporary_installation() as installation:
        yield installation


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """A whole stack, started once for a module by `hl up --detach`."""
    with temporary_installation() as installation:
        done = installation.run("up", "--detach")
        if done.returncode != 0:
            pytest.fail(f"hl up --detach failed: {done.stdout}{done.stderr}", pytrace=False)
        yield installation
