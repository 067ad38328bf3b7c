import msgspec
import pytest

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.migrate import ensure_partitions_ahead, migrate
from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.streams import Field, Stream
from hl_platform.streams import load_streams

ENERGY = load_streams()["energy"]


def with_field(field: Field) -> Stream:
    others = tuple(known for known in ENERGY.fields if known.name != field.name)
    return msgspec.structs.replace(ENERGY, fields=(*others, field))


def test_migrating_twice_changes_nothing(database_url: str):
    migrate(database_url, None, [ENERGY])
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        assert conn.execute("select version from hl.migrations").fetchall() == [(1,)]


def test_a_newly_declared_field_becomes_a_column(database_url: str):
    migrate(database_url, None, [ENERGY])
    migrate(database_url, None, [with_field(Field(name="phase", type="smallint", kind="state"))])
    with connect(database_url, application_name="test") as conn:
        assert conn.execute("select phase from energy_readings").fetchall() == []


def test_a_declaration_that_contradicts_its_table_names_field_and_column(database_url: str):
    migrate(database_url, None, [ENERGY])
    with pytest.raises(
        ConfigError, match=r"fields.voltage.type.*energy_readings.voltage is double precision"
    ):
        migrate(database_url, None, [with_field(Field(name="voltage", type="text", kind="label"))])


def test_a_column_that_was_widened_is_accepted(database_url: str):
    narrow = with_field(Field(name="phase", type="smallint", kind="state"))
    migrate(database_url, None, [narrow])
    with connect(database_url, application_name="test") as conn:
        conn.execute("alter table energy_readings alter column phase type bigint")
    migrate(database_url, None, [narrow])


def test_partitions_ahead_are_made_once(database_url: str):
    migrate(database_url, None, [ENERGY])
    assert ensure_partitions_ahead(database_url, [ENERGY]) == 0


def test_a_day_that_the_catch_all_holds_already_stays_there(database_url: str):
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        conn.execute(
            "insert into energy_readings (device_id, timestamp, received_at) values ('m', '2020-05-05T12:00Z', now())"
        )
        made = conn.execute("select hl.ensure_partition('energy_readings', '2020-05-05')").fetchone()
        partitions = conn.execute("select tableoid::regclass::text from energy_readings").fetchall()
    assert made == (False,)
    assert partitions == [("energy_readings_older",)]


def test_an_applied_migration_that_was_changed_is_refused(database_url: str):
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        conn.execute("update hl.migrations set checksum = 'other'")
    with pytest.raises(ConfigError, match="0001_service_state was changed"):
        migrate(database_url, None, [ENERGY])


def test_the_query_of_timescaledb_runs_where_the_extension_is_absent(database_url: str):
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        [row] = conn.execute("select time_bucket('1 hour', timestamptz '2026-01-03 16:59:59+00')").fetchall()
    assert row[0].isoformat() == "2026-01-03T16:00:00+00:00"


def test_a_server_that_is_not_there_is_an_outage_and_not_a_mistake():
    with pytest.raises(TransientError):
        connect("postgresql://hl:x@127.0.0.1:1/hl", application_name="test")
