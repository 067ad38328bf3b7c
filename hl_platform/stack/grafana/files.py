"""Everything that Grafana reads: provisioning and dashboards, as text."""

import json

from dbt_like_sql.engine.project import Project
from hl_platform.stack.grafana.health_dashboard import health_dashboard
from hl_platform.stack.grafana.panels import DATA_SOURCE, Json
from hl_platform.stack.grafana.stream_dashboard import stream_dashboard

DATA_SOURCES = f"""\
# Grafana fills in the variables when it starts; nothing secret stands here.
apiVersion: 1
datasources:
  - name: hl
    uid: {DATA_SOURCE["uid"]}
    type: {DATA_SOURCE["type"]}
    access: proxy
    # host:port
    url: $GRAFANA_HL_ADDRESS
    # The role that may only read.
    user: hl_read
    secureJsonData:
      password: $GRAFANA_HL_PASSWORD
    jsonData:
      database: hl
      # disable, require, verify-ca or verify-full
      sslmode: $GRAFANA_HL_SSLMODE
      postgresVersion: 1500
      # hl has a function time_bucket of its own where the extension is absent; the macros do not need it.
      timescaledb: false
      maxOpenConns: 5
      timeInterval: 1m
    editable: false
"""
PROVIDERS = """\
apiVersion: 1
providers:
  - name: hl
    folder: hl
    type: file
    disableDeletion: false
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options:
      path: /var/lib/grafana/dashboards/hl
"""


def grafana_files(project: Project, timezone: str = "browser") -> dict[str, str]:
    """The text of each file, by its path within one directory.

    Args:
        project: all streams and models; each stream gets a dashboard.
        timezone: in which the dashboards show times: the name of a time zone, or `browser`.
    """
    dashboards = [stream_dashboard(stream, project, timezone) for stream in project.streams.values()]
    dashboards.append(health_dashboard(project, timezone))
    return {
        "provisioning/datasources/hl.yaml": DATA_SOURCES,
        "provisioning/dashboards/hl.yaml": PROVIDERS,
        **{f"dashboards/{_file_of(made)}": _json(made) for made in dashboards},
    }


def _file_of(made: Json) -> str:
    return f"{made['uid']}.json"


def _json(made: Json) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"
