"""Bridge, sink and live service of one household as processes of their own, and the `hl` command beside them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from hl_platform.cli import main
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess


class Flow(LiveProcess):
    """What `hl up` runs, but for Dagster, on streams and topics of its own.

    Args:
        folder: for declarations, logs and data.
        url: of the database.
        kafka: bootstrap servers.
        mqtt: host and port.
    """

    def __init__(self, folder: Path, url: str, kafka: str, mqtt: tuple[str, int]) -> None:
        super().__init__(
            folder,
            url,
            kafka,
            HL_MQTT__HOST=mqtt[0],
            HL_MQTT__PORT=str(mqtt[1]),
            HL_BRIDGE__SPOOL_DIR=str(folder / "spool"),
            HL_DATA_DIR=str(folder),
        )
        self.env["HL_MQTT__CLIENT_ID_PREFIX"] = self.prefix
        self._logs = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        """Makes what all need, and starts all."""
        self.make_tables()
        self.make_models()
        self.make_topics()
        for name in ("bridge", "sink"):
            self.start_service(name)
        self.start_reading()
        self.await_flow()

    def await_flow(self) -> None:
        """Returns once a reading comes through everything."""
        eventually(lambda: self.hl("check", "--limit", "2").output, lambda said: "hl logs" not in said)

    def start_service(self, name: str) -> None:
        """Starts a bridge or sink, and waits until it holds its lease."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "hl_platform.pipeline", name],
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
            )
        eventually(
            lambda: self.query("select 1 from hl.leases where service = %s and released_at is null", name)
        )

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """The household while one of its services has been stopped."""
        if name == "live":
            self.stop()
        else:
            self._end(name)
        try:
            yield
        finally:
            if name == "live":
                self._stopped = False
                self.start_reading()
            else:
                self.start_service(name)
            # Who holds its lease has not read yet, and the next test may look at once.
            self.await_flow()

    def close(self) -> None:
        """Ends all."""
        for name in self._processes:
            self._end(name)
        super().close()

    def hl(self, *arguments: str, **environment: str) -> Result:
        """Runs a command."""
        done = CliRunner().invoke(main, arguments, env={**self.env, **environment})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def hl_json(self, *arguments: str) -> dict[str, Any]:
        """What a command says to programs."""
        return self.hl_json_with(*arguments)

    def hl_json_with(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """The same, with further settings."""
        document: dict[str, Any] = json.loads(self.hl(*arguments, "--json", **environment).stdout)
        return document

    def start_hl(self, *arguments: str) -> subprocess.Popen[str]:
        """Runs a command as in a terminal of its own."""
        env: Mapping[str, str] = {**os.environ, **self.env, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "hl_platform.cli", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _end(self, name: str) -> None:
        process = self._processes[name]
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
