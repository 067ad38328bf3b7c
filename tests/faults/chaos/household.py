"""The household of one cell: its services are processes behind the site's lines, kept alive as Dagster would."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import psutil

from hl_platform.adapters.kafka.config import admin_client
from hl_platform.stack.net import LOOPBACK
from tests.faults.chaos.site import Site, resume, suspend
from tests.home import Home
from tests.servers import temporary_database

# Short, so that a cell is: a service counts as dead after a second instead of three.
SERVICE = {"HL_SERVICE__HEARTBEAT_S": "0.25", "HL_SERVICE__STALE_AFTER_S": "1", "HL_LOG__FORMAT": "json"}
PATIENCE_S = 40.0


class NotAsPlannedError(AssertionError):
    """The fault could not be injected where it was meant to be, or the household did not recover."""


class Hold:
    """A process that stands still at a point of its protocol."""

    def __init__(self, heard: int, say: int) -> None:
        self._heard, self._say = heard, say

    def await_reached(self, patience_s: float) -> bool:
        """Whether it stands there, at last."""
        os.set_blocking(self._heard, False)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                return os.read(self._heard, 1) == b"."
            time.sleep(0.01)
        return False

    def go_on(self) -> None:
        """Lets it pass; a dead one does not mind."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._say, b".")

    def close(self) -> None:
        """Gives the pipes back."""
        os.close(self._heard)
        os.close(self._say)


class Household:
    """Services of one home, as processes.

    Args:
        home: reached directly by the test.
        site: where they run.
        log: takes what they say.
        by_lines: whether they reach the servers through the site's lines.
    """

    def __init__(self, home: Home, site: Site, log: IO[bytes], *, by_lines: bool) -> None:
        self.home = home
        self._site = site
        self._by_lines = by_lines
        self._log = log
        self._holds: list[Hold] = []
        self._old: list[subprocess.Popen[bytes]] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # Names of those that ended by themselves and were started again.
        self.restarted: list[str] = []

    def start(self, name: str) -> None:
        """Starts a service."""
        self._spawn(name, [], ())

    def start_to_hold(self, name: str, step: str, passage: int) -> Hold:
        """Starts a service that stands still at the given passage of a step."""
        (heard, tell), (hear, say) = os.pipe(), os.pipe()
        self._spawn(name, [step, str(passage), str(tell), str(hear)], (tell, hear))
        os.close(tell)
        os.close(hear)
        self._holds.append(Hold(heard, say))
        return self._holds[-1]

    def _spawn(self, name: str, hold: list[str], fds: tuple[int, ...]) -> None:
        service = msgspec.json.encode(self.home.service(name)).decode()
        # Dies with the thread that runs the cell, also when that is killed.
        launcher = ["setpriv", "--pdeathsig", "KILL", "--"]
        module = [sys.executable, "-m", "tests.faults.chaos.victim"]
        self.processes[name] = subprocess.Popen(
            [*launcher, *module, service, *hold],
            env={**os.environ, **self.home.env, **self._lines_of(name)},
            stdout=self._log,
            stderr=self._log,
            pass_fds=fds,
        )

    def _lines_of(self, name: str) -> dict[str, str]:
        """The settings by which a service reaches the servers through the site's lines."""
        if not self._by_lines:
            return {}
        lines = {line: proxy.port for line, proxy in self._site.lines.items()}
        if name == "bridge":
            return {
                "HL_MQTT__PORT": str(lines["mqtt-bridge"]),
                "HL_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{lines['bridge-kafka']}",
            }
        direct, by_line = f":{self._site.postgres.port}/", f":{lines['sink-postgres']}/"
        return {
            "HL_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{lines['kafka-sink']}",
            "HL_DATABASE__URL": self.home.env["HL_DATABASE__URL"].replace(direct, by_line),
        }

    def kill(self, name: str) -> None:
        """Ends it at once, as a crash would, and waits for that."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def put_to_sleep(self, name: str) -> subprocess.Popen[bytes]:
        """SIGSTOP; somebody else may have its name now."""
        process = self.processes.pop(name)
        self._old.append(process)
        suspend(psutil.Process(process.pid))
        return process

    def wake(self, process: subprocess.Popen[bytes]) -> None:
        """SIGCONT."""
        resume([psutil.Process(process.pid)])

    def tend(self) -> None:
        """Starts again what has ended, as Dagster would."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.restarted.append(f"{name} ({process.returncode})")
                self.start(name)

    def await_true(self, what: str, check: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Tends the services until something is so.

        Raises:
            NotAsPlannedError: patience ended.
        """
        deadline = time.monotonic() + patience_s
        while not check():
            if time.monotonic() > deadline:
                raise NotAsPlannedError(f"not within {patience_s:g} s: {what}")
            self.tend()
            time.sleep(0.05)

    def end(self) -> None:
        """Kills everything."""
        for process in [*self.processes.values(), *self._old]:
            process.kill()
            process.wait()
        for hold in self._holds:
            hold.close()


@contextmanager
def household(
    site: Site, name: str, log_path: Path, *, by_lines: bool = True, **env: str
) -> Iterator[Household]:
    """A household with a database, topics and sessions of its own, gone afterwards."""
    with temporary_database(site.postgres, name) as database, log_path.open("ab") as log:
        home = Home(
            site.owner_url(database.name),
            site.kafka.bootstrap_servers,
            (site.mosquitto.host, site.mosquitto.port),
            **SERVICE,
            **env,
        )
        home.streams = {"energy": home.energy}
        home.prepare()
        made = Household(home, site, log, by_lines=by_lines)
        try:
            yield made
        finally:
            made.end()
            # A database cannot go while its server stands still, and a cell must not slow the next one.
            site.mend()
            topics = [home.energy.kafka_topic, home.energy.dead_letter_topic]
            admin_client(home.settings.kafka, "chaos").delete_topics(topics)
