"""Dagster's configuration, rendered: dagster.yaml and workspace.yaml of the stack, and its environment."""

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

# Not HL_…: an unknown variable of that prefix is an error.
URL_VARIABLE = "DAGSTER_POSTGRES_URL"
# Dagster knows sensors, their state and their runs by it: never change it.
LOCATION_NAME = "hl"
MODULE = "hl_platform.definitions"
# Each keep-alive sensor holds one for most of the time, and the start of a run must not wait for it. Dagster would
# allow four more than there are cores. Made on demand.
CODE_SERVER_THREADS = 32
# For the sensors that do not watch.
N_OTHER_THREADS = 3

DAGSTER_YAML = """\
# Written by hl at every start; changes made here are lost.
storage:
  postgres:
    postgres_url:
      env: {url_variable}

# Services are started at once and without a queue: nothing may stand between a dead service and its successor.
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator

run_launcher:
  module: dagster._core.launcher
  class: DefaultRunLauncher

compute_logs:
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config:
    base_dir: {home}/logs

local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config:
    base_dir: {home}

# The keep-alive sensors and that of replays watch for most of their tick: each needs a thread.
sensors:
  use_threads: true
  num_workers: {n_sensor_threads}
  num_submit_workers: 4

# Ends runs that never start or never finish to be canceled; the dead are the sensors' business.
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  start_timeout_seconds: 60
  cancel_timeout_seconds: 15
  max_resume_run_attempts: 0

# Nothing here is automated by conditions; a daemon would ask the storage every five seconds whether it is.
auto_materialize:
  enabled: false
  use_sensors: false

# With telemetry on, Dagster looks up a host on the internet.
telemetry:
  enabled: false
nux:
  enabled: false

retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 1
      success: 7
      failure: 30
"""

WORKSPACE_YAML = """\
# Written by hl at every start: the code server that it runs.
load_from:
  - grpc_server:
      host: {host}
      port: {port}
      location_name: {location_name}
"""


def write_dagster_home(home: Path, code_server_host: str, code_server_port: int, n_services: int) -> None:
    """Writes dagster.yaml and workspace.yaml into a folder, which is made if it is missing.

    Args:
        home: what DAGSTER_HOME names; absolute.
        code_server_host: address of the code server.
        code_server_port: its port.
        n_services: how many services are kept alive.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(render_dagster_yaml(home, n_services), encoding="utf-8")
    (home / "workspace.yaml").write_text(
        render_workspace_yaml(code_server_host, code_server_port), encoding="utf-8"
    )


def render_dagster_yaml(home: Path, n_services: int) -> str:
    """The text of dagster.yaml.

    Args:
        home: what DAGSTER_HOME names.
        n_services: how many services are kept alive.
    """
    return DAGSTER_YAML.format(
        url_variable=URL_VARIABLE, home=home, n_sensor_threads=n_services + 1 + N_OTHER_THREADS
    )


def render_workspace_yaml(host: str, port: int) -> str:
    """The text of workspace.yaml."""
    return WORKSPACE_YAML.format(host=host, port=port, location_name=LOCATION_NAME)


def dagster_environment(home: Path, database_url: str) -> dict[str, str]:
    """What Dagster's processes need in their environment, beside hl's own settings.

    Args:
        home: what DAGSTER_HOME names.
        database_url: postgresql:// URL of Dagster's storage.
    """
    return {
        "DAGSTER_HOME": str(home),
        URL_VARIABLE: storage_url(database_url),
        # 8,760 planned partitions in one run took 203 s instead of 427 s.
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        # Readings are due within half an hour; every 30 s by default.
        "FRESHNESS_DAEMON_INTERVAL_SECONDS": "300",
    }


def storage_url(database_url: str) -> str:
    """The url with the options that Dagster's storage needs.

    Dagster fills `timestamp` columns by CURRENT_TIMESTAMP and reads them as UTC: under any other time zone
    of the session, runs seem to be created hours from now.
    """
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -c timezone=UTC".strip()
    # %20, since libpq takes a plus sign for itself.
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def code_server_command(python: str, host: str, port: int) -> list[str]:
    """Serves the definitions; start it first and wait for its port."""
    return [python, "-m", "hl_platform.code_server", "api", "grpc", "--module-name", MODULE, "--host", host,
            "--port", str(port), "--location-name", LOCATION_NAME,
            "--max-workers", str(CODE_SERVER_THREADS)]  # fmt: skip


def webserver_command(python: str, home: Path, host: str, port: int) -> list[str]:
    """Serves Dagster's page."""
    return [python, "-m", "dagster_webserver", "--workspace", str(home / "workspace.yaml"), "--host", host,
            "--port", str(port)]  # fmt: skip


def daemon_command(python: str, home: Path) -> list[str]:
    """Runs sensors and schedules."""
    # At "info" it writes several lines a second for as long as it lives; the ticks are in the page.
    return [python, "-m", "hl_platform.dagster_daemon", "run", "--workspace", str(home / "workspace.yaml"),
            "--log-level", "warning"]  # fmt: skip
