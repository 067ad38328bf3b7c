"""`hl archive` and the Dagster asset, as a person and the daemon use them."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from hl_platform.cli import main
from hl_platform.core.settings import load_settings
from hl_platform.defs import retention as defs
from hl_platform.stack import archive as command
from tests.retention.conftest import Pair
from tests.retention.home import DAY, STREAM, House, meter

Make = Callable[..., Pair]


@pytest.fixture
def house(houses: Make, monkeypatch: pytest.MonkeyPatch) -> House:
    made: House = houses()[0]
    made.ingest(meter(DAY + timedelta(hours=h), 10 + h * 1.5) for h in range(60))
    monkeypatch.setattr(command, "load_streams", lambda _dir: {STREAM.name: STREAM})
    return made


def environment(house: House, tmp_path: Path) -> dict[str, str]:
    return {
        "HL_DATABASE__URL": house.url,
        "HL_ARCHIVE__DIR": str(house.directory),
        "HL_DATA_DIR": str(tmp_path),
    }


def test_a_person_archives_verifies_and_restores(house: House, tmp_path: Path) -> None:
    def hl(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["archive", *arguments], env=environment(house, tmp_path))

    assert hl("list").output == "The archive is empty.\n"
    assert "meter: 3 days with 60 readings archived and dropped" in hl("run").output
    files = json.loads(hl("list", "--json").output)
    assert [file["n_rows"] for file in files] == [24, 24, 12]
    assert "3 files, 0 of them missing or damaged" in hl("verify").output
    restored = hl(
        "restore", "--stream", "meter", "--start", "2024-05-06T20:00Z", "--end", "2024-05-08T00:00Z"
    )
    assert "28 readings are in restored.meter_readings" in restored.output
    assert "Dropped restored.meter_readings" in hl("forget").output
    (house.directory / files[1]["path"]).unlink()
    verified = hl("verify")
    assert (verified.exit_code, files[1]["path"] in verified.output) == (1, True)


def test_dagster_archives_and_checks_and_absorbs(house: House, tmp_path: Path) -> None:
    settings, streams = load_settings(environment(house, tmp_path)), {STREAM.name: STREAM}
    asset, check = defs.build_asset(settings, streams), defs.build_check(settings, streams)
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([asset, check], instance=instance)
        assert done.success
        assert [found.passed for found in done.get_asset_check_evaluations()] == [True]
        assert [n for *_, n in house.archived()] == [24, 24, 12]
        house.ingest([meter(DAY + timedelta(hours=3, minutes=7), 14.6)])
        sensor = defs.build_sensor(settings, streams)
        with dg.build_sensor_context(instance=instance) as context:
            assert isinstance(sensor(context), dg.SkipReason)
        house.query("update hl.dirty set since = since - interval '5 minutes' returning 1")
        with dg.build_sensor_context(instance=instance) as context:
            assert isinstance(sensor(context), dg.RunRequest)
        assert dg.materialize([asset], instance=instance).success
        assert house.waiting() == 0


def test_nothing_is_scheduled_where_the_archive_is_switched_off() -> None:
    built = defs.build_retention(load_settings({"HL_ARCHIVE__ENABLED": "false"}), {STREAM.name: STREAM})
    assert not built.jobs
    assert not built.sensors
