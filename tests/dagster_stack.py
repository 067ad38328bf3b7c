"""Dagster as `hl up` runs it: code server, webserver and daemon as processes, used through the page's own API."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import psutil

from hl_platform.adapters.postgres.lease_reader import LeaseReader, LeaseRow
from hl_platform.stack.dagster_instance import (
    code_server_command,
    daemon_command,
    dagster_environment,
    webserver_command,
    write_dagster_home,
)
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.lock import lives
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import Home, eventually, reading
from tests.servers import temporary_database

HOST = "127.0.0.1"
START_S = 90.0
# As `hl up` does: a tick of the daemon lasts longer.
STOP_S = 1.5
N_CONNECTIONS = 10
ACTIVE = ("NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING")


class DagsterStack:
    """Dagster over one household.

    Args:
        folder: for DAGSTER_HOME, logs and stream declarations.
        home: the household.
        dagster_url: of a database for Dagster's storage.
    """

    def __init__(self, folder: Path, home: Home, dagster_url: str) -> None:
        self.folder = folder
        self.dagster_home = folder / "dagster"
        self.house = home
        self.dagster_url = dagster_url
        self.ports = {name: free_port() for name in ("code_server", "webserver")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.orphans: list[psutil.Process] = []
        self.env = {
            **os.environ,
            **home.env,
            "HL_STREAMS_DIR": str(_write_streams(folder / "streams", home)),
            "HL_DAGSTER__DATABASE_URL": dagster_url,
            **dagster_environment(self.dagster_home, dagster_url),
        }
        write_dagster_home(self.dagster_home, HOST, self.ports["code_server"], n_services=2)

    def start(self) -> None:
        """The code server first, then the rest."""
        self.start_process("code_server")
        self.start_process("webserver")
        self.start_process("daemon")

    def start_process(self, name: str) -> None:
        """Starts one of the three and waits until it serves; its log is in the folder."""
        commands = {
            "code_server": lambda: code_server_command(sys.executable, HOST, self.ports[name]),
            "webserver": lambda: webserver_command(sys.executable, self.dagster_home, HOST, self.ports[name]),
            "daemon": lambda: daemon_command(sys.executable, self.dagster_home),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                commands[name](),
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        if name in self.ports:
            eventually(lambda: _listens(self.processes[name].pid, self.ports[name]), patience_s=START_S)

    def kill_process(self, name: str) -> None:
        """Ends it as kill -9 does; what it started lives on."""
        process = self.processes.pop(name)
        self.orphans += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """The daemon, so that nothing is started again; the services through their leases; the rest."""
        try:
            self._end("daemon")
            with LeaseReader(self.house.env["HL_DATABASE__URL"]) as reader:
                for service in ("bridge", "sink"):
                    lease = reader.lease(service)
                    reader.request_stop(service, lease.run_id if lease else "")
            for job in ("bridge", "sink"):
                eventually(lambda job=job: self.active(job), lambda runs: not runs)
        finally:
            for name in list(self.processes):
                self._end(name)
            for process in self.orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def ask(self, query: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """The data of a GraphQL answer."""
        url = f"http://{HOST}:{self.ports['webserver']}/graphql"
        # After an outage of the database each of Dagster's connections fails once, as a person would see.
        for _ in range(N_CONNECTIONS):
            answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=30).json()
            if "OperationalError" not in str(answer):
                break
        assert "errors" not in answer, answer["errors"]
        assert "PythonError" not in str(answer), answer
        return answer["data"]

    def runs(self, job: str) -> list[dict[str, Any]]:
        """All runs of a job, newest first."""
        return list(self.ask(RUNS, job=job)["runsOrError"]["results"])

    def active(self, job: str) -> list[dict[str, Any]]:
        """Runs that are not over."""
        return [run for run in self.runs(job) if run["status"] in ACTIVE]

    def lease(self, service: str) -> LeaseRow | None:
        """Who holds a service."""
        with LeaseReader(self.house.env["HL_DATABASE__URL"]) as reader:
            return reader.lease(service)

    def holder(self, service: str, *, after: str = "") -> LeaseRow:
        """The holder of a service, once somebody other than the run `after` lives."""
        return eventually(
            lambda: self._living(service, after), lambda lease: lease is not None, patience_s=START_S
        )  # type: ignore[return-value]

    def terminate(self, run_id: str) -> None:
        """What the button in the page does."""
        self.ask(TERMINATE, runId=run_id, policy="SAFE_TERMINATE")
        eventually(lambda: self.status(run_id), lambda status: status == "CANCELED")

    def status(self, run_id: str) -> str:
        return str(self.ask(STATUS, runId=run_id)["runOrError"]["status"])

    def launch(self, job: str) -> str:
        """Launches a job as a person would; returns the run's id."""
        # After a restart of the code server the page knows no jobs for a moment.
        answer = eventually(lambda: self.ask(LAUNCH, job=job)["launchRun"], lambda answer: "run" in answer)
        return str(answer["run"]["runId"])

    def switch(self, sensor: str, *, on: bool) -> None:
        """Switches a sensor on or off in the page."""
        if on:
            self.ask(SENSOR_ON, sensor=sensor)
            return
        # The daemon reads all sensors' states, and writes one back when that sensor's turn comes: what was switched in
        # between is undone. Nothing is on its way any more when another sensor has had two turns.
        while True:
            eventually(lambda: self._is_off(sensor))
            other = "keep_sink_alive" if sensor != "keep_sink_alive" else "keep_bridge_alive"
            for _ in range(2):
                self.await_tick(other)
            if self._is_off(sensor):
                return

    def _is_off(self, sensor: str) -> bool:
        # A tick that is about to end writes back the state that it read, and may undo the switching off.
        state = self.sensor(sensor)["sensorState"]
        if state["status"] == "STOPPED":
            return all(tick["status"] != "STARTED" for tick in state["ticks"])
        self.ask(SENSOR_OFF, id=state["id"])
        return False

    def sensor(self, sensor: str) -> Any:  # noqa: ANN401 - JSON
        """A sensor's state and newest tick."""
        # After a restart of the code server the page knows no sensors for a moment.
        return eventually(
            lambda: self.ask(SENSOR, sensor=sensor)["sensorOrError"], lambda found: "sensorState" in found
        )

    def last_skip_reason(self, sensor: str) -> str:
        ticks = self.sensor(sensor)["sensorState"]["ticks"]
        return str(ticks[0]["skipReason"] or "") if ticks else ""

    def last_tick_at(self, sensor: str) -> float:
        """When a sensor last looked, by Dagster's clock."""
        ticks = self.sensor(sensor)["sensorState"]["ticks"]
        return float(ticks[0]["timestamp"]) if ticks else 0.0

    def await_tick(self, sensor: str) -> None:
        """Returns when a sensor has looked once more."""
        before = self.last_tick_at(sensor)
        eventually(lambda: self.last_tick_at(sensor), lambda at: at > before, patience_s=START_S)

    def figures(self, *path: str) -> dict[str, int | None]:
        """What the page shows for an asset."""
        found = self.ask(FIGURES, path=path)["assetOrError"].get("assetMaterializations", [])
        return {entry["label"]: entry.get("intValue") for each in found for entry in each["metadataEntries"]}

    def carries(self, device_id: str) -> None:
        """Returns once a reading published from now on is a row."""

        def arrived() -> int:
            # Before a bridge has ever connected, nobody keeps what is published.
            self.house.publish((self.house.topic(device_id), reading()))
            return int(
                self.house.query("select count(*) from {energy} where device_id = %s", device_id)[0][0]
            )

        eventually(arrived, patience_s=START_S)

    def _living(self, service: str, after: str) -> LeaseRow | None:
        with LeaseReader(self.house.env["HL_DATABASE__URL"]) as reader:
            lease, now = reader.lease(service), reader.clock().now
        lives = lease is not None and lease.released_at is None and now - lease.beat_at < 1.5
        return lease if lives and lease is not None and lease.run_id != after else None

    def _end(self, name: str) -> None:
        process = self.processes.pop(name)
        self.orphans += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def dagster_stack(
    postgres: EmbeddedPostgres,
    kafka: EmbeddedKafka,
    mosquitto: EmbeddedMosquitto,
    *,
    before_start: Callable[["DagsterStack"], None] = lambda _: None,
) -> Iterator[DagsterStack]:
    """A running Dagster whose sensors keep bridge and sink alive."""
    with ExitStack() as exit_stack:
        folder = exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="hl-dagster-", dir="/tmp"))
        names = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(2)]
        data, storage = (exit_stack.enter_context(temporary_database(postgres, name)) for name in names)
        home = Home(data.url, kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
        home.prepare()
        stack = DagsterStack(Path(folder), home, storage.url)
        exit_stack.callback(stack.stop)
        before_start(stack)
        stack.start()
        yield stack


def _write_streams(folder: Path, home: Home) -> Path:
    folder.mkdir()
    for name, stream in home.streams.items():
        text = (resources.files("hl_platform.streams") / f"{name}.toml").read_text(encoding="utf-8")
        own = text.replace(f'name = "{name}"', f'name = "{stream.name}"')
        (folder / f"{name}.toml").write_text(own.replace('"homelab', f'"{home.prefix}'), encoding="utf-8")
    return folder


def _listens(pid: int, port: int) -> bool:
    found = psutil.Process(pid).net_connections("tcp")
    return any(each.laddr[1] == port and each.status == psutil.CONN_LISTEN for each in found)


SELECTOR = 'repositoryLocationName: "hl", repositoryName: "__repository__"'

RUNS = """
query Runs($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results {
  runId status startTime endTime tags { key value } } } } }
"""
STATUS = "query Status($runId: ID!) { runOrError(runId: $runId) { ... on Run { status } } }"
TERMINATE = """
mutation Terminate($runId: String!, $policy: TerminateRunPolicy) {
  terminateRun(runId: $runId, terminatePolicy: $policy) { __typename ... on PythonError { message } } }
"""
LAUNCH = f"""
mutation Launch($job: String!) {{ launchRun(executionParams: {{selector: {{{SELECTOR}, jobName: $job}}}}) {{
  __typename ... on LaunchRunSuccess {{ run {{ runId }} }} ... on PythonError {{ message }} }} }}
"""
SENSOR_ON = f"""
mutation On($sensor: String!) {{ startSensor(sensorSelector: {{{SELECTOR}, sensorName: $sensor}}) {{
  __typename ... on PythonError {{ message }} }} }}
"""
SENSOR_OFF = """
mutation Off($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""
SENSOR = f"""
query Sensor($sensor: String!) {{ sensorOrError(sensorSelector: {{{SELECTOR}, sensorName: $sensor}}) {{
  ... on Sensor {{ sensorState {{ id status ticks(limit: 1) {{ status skipReason timestamp }} }} }} }} }}
"""
FIGURES = """
query Figures($path: [String!]!) { assetOrError(assetKey: {path: $path}) { ... on Asset {
  assetMaterializations(limit: 1) { metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }
"""


def is_alive(pid: int) -> bool:
    """Whether a process has not ended; whoever inherits it may not have taken note of its end yet."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
