"""The examples in docs/models.md work."""

import re
from pathlib import Path

from dbt_like_sql.engine.checks import checks_of, load_checks
from dbt_like_sql.engine.examples import parse_examples
from dbt_like_sql.engine.lineage import column_lineage
from dbt_like_sql.engine.project import load_project
from hl_platform.streams import load_streams

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
MODEL, CHECK = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
EXAMPLE = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]


def test_the_model_is_one_that_works(tmp_path: Path) -> None:
    (tmp_path / "heat_share.sql").write_text(MODEL)
    project = load_project(load_streams(), str(tmp_path))
    columns = column_lineage(project, project.models["heat_share"])
    assert columns["share"] == [("energy_daily", "consumption_kwh"), ("heatpump_daily", "energy_kwh")]
    assert columns.keys() == project.models["heat_share"].columns.keys()


def test_the_check_is_one_that_works(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "no_negative_count.sql").write_text(CHECK)
    checks = [check for check in load_checks(str(tmp_path)) if check.name == "no_negative_count"]
    found = [model.name for _, model, _ in checks_of(load_project(load_streams()), checks)]
    assert found == ["energy_hourly", "heatpump_hourly", "temperature_hourly"]


def test_the_tests_of_the_example_can_be_read() -> None:
    assert parse_examples(EXAMPLE, "example.yaml").model == "energy_hourly"
