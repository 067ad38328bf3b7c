"""Whether the models in the database are those that a process has loaded.

A mark that is taken is passed on to the models above, and only to those that the process knows. One that is older than
the deployment, or that has other files in HL_MODELS_DIR, would take marks that nobody makes again. So whoever takes
marks, or what marks could be computed from, asks here first, and keeps the answer true to the end of his transaction:
a deployment holds the same lock alone.
"""

from collections.abc import Mapping
from functools import lru_cache

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.objects import digest_of
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.render import Renderer
from hl_platform.core.errors import DeployedOtherwiseError

HOLD = "select pg_advisory_xact_lock(hashtextextended('hl.deploy', 0))"
SHARE = "select pg_advisory_xact_lock_shared(hashtextextended('hl.deploy', 0))"
# Not in one statement with the lock: that would see what was there before it waited.
DEPLOYED = """
-- deployed: the household's zone, and what each continuous aggregate was when it was deployed last
select hl.timezone(), coalesce(jsonb_object_agg(model, digest), '{}')
from hl.models where to_regclass('hl.dirty_' || model) is not null
"""


def hold_deployed(db: Database) -> None:
    """From here to the end of the transaction nobody else deploys, or takes marks."""
    db.rows(HOLD)


def check_deployed(db: Database, project: Project) -> None:
    """From here to the end of the transaction the deployed aggregates are those of a project.

    It is the first statement of a transaction: whoever waits here for a deployment must hold nothing that this needs.

    Raises:
        DeployedOtherwiseError: they are not. Nothing was done.
        ConfigError: nothing was ever deployed by this version.
    """
    db.rows(SHARE)
    timezone, deployed = db.rows(DEPLOYED)[0]
    wanted = _digests(project, timezone)
    if deployed == wanted:
        return
    others = sorted(name for name in {*deployed, *wanted} if deployed.get(name) != wanted.get(name))
    raise DeployedOtherwiseError(
        f"The models were deployed by another version, or with other files in HL_MODELS_DIR: {', '.join(others)}. "
        "Nothing is materialized by this process until it is started anew with those, or its own are deployed."
    )


def timezone_function(timezone: str) -> str:
    """Makes `hl.timezone()`, by which digests can be compared. The name was checked with the settings."""
    return f"create or replace function hl.timezone() returns text immutable return '{timezone}'"


# For every transaction anew, all models would be rendered; there is one project for as long as a process lives.
@lru_cache(maxsize=4)
def _digests(project: Project, timezone: str) -> Mapping[str, str]:
    renderer = Renderer(project.streams)
    return {model.name: digest_of(model, renderer, timezone) for model in project.aggregates()}
