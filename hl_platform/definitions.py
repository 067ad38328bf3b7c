"""Dagster's code location: what workspace.yaml names."""

import os

import dagster as dg

from dbt_like_sql.engine.project import load_project
from hl_platform.core.settings import load_settings
from hl_platform.defs.aggregate_checks import build_aggregate_checks
from hl_platform.defs.aggregates import build_aggregates
from hl_platform.defs.dead_letters import build_dead_letters
from hl_platform.defs.health import build_health
from hl_platform.defs.housekeeping import build_housekeeping
from hl_platform.defs.lineage import build_lineage
from hl_platform.defs.refresh_sensor import build_refresh
from hl_platform.defs.replay_requests import build_replay_requests
from hl_platform.defs.retention import build_retention
from hl_platform.defs.services import build_services
from hl_platform.streams import load_streams

settings = load_settings(os.environ)
streams = load_streams(settings.streams_dir)
project = load_project(streams, settings.models_dir)

defs = dg.Definitions.merge(
    build_services(settings, streams),
    build_lineage(streams),
    build_health(settings, streams),
    build_dead_letters(settings, streams),
    build_replay_requests(settings, streams),
    build_aggregates(settings, project),
    build_refresh(settings, project),
    build_aggregate_checks(settings, project),
    build_housekeeping(settings, streams, project),
    build_retention(settings, streams),
    # A step's process of its own would cost 100 MB and a second; nothing here needs it.
    dg.Definitions(executor=dg.in_process_executor),
)
