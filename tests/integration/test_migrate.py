import asyncio
import threading
from collections.abc import Callable

import msgspec
import psycopg
import pytest
from structlog.testing import capture_logs

from hl_platform.adapters.postgres import widening
from hl_platform.adapters.postgres.balance_store import read_ledger
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.migrate import ensure_partitions_ahead, load_migrations, migrate
from hl_platform.adapters.postgres.readings import ReadingQueries
from hl_platform.core.balance import STAGES, compare
from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Field, FieldType, Stream
from hl_platform.streams import load_streams
from tests.home import eventually
from tests.servers import Database

ENERGY = load_streams()["energy"]


def with_field(field: Field) -> Stream:
    others = tuple(known for known in ENERGY.fields if known.name != field.name)
    return msgspec.structs.replace(ENERGY, fields=(*others, field))


def test_migrating_twice_changes_nothing(database_url: str):
    migrate(database_url, None, [ENERGY])
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        applied = conn.execute("select version from hl.migrations order by version").fetchall()
    assert applied == [(migration.version,) for migration in load_migrations()]


def test_the_owners_own_role_as_reader_keeps_its_rights(database_url: str):
    migrate(database_url, database_url, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        assert conn.execute("select count(*) from hl.tokens").fetchone() == (0,)


def test_an_owner_that_lost_the_tokens_gets_them_back(database_url: str):
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        conn.execute("revoke all on hl.tokens from current_user")
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        assert conn.execute("select count(*) from hl.tokens").fetchone() == (0,)


def test_a_reader_has_no_business_with_tokens(database: Database):
    migrate(database.url, database.read_url, [ENERGY])
    with (
        connect(database.read_url, application_name="test") as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("select from hl.tokens")


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


def type_of(url: str, column: str) -> str:
    with connect(url, application_name="test") as conn:
        row = conn.execute(
            "select format_type(atttypid, atttypmod) from pg_attribute "
            "where attrelid = 'energy_readings'::regclass and attname = %s",
            (column,),
        ).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("found", "declared"), [("smallint", "integer"), ("integer", "integer"), ("real", "float")]
)
def test_a_column_narrower_than_declared_is_widened_and_keeps_its_values(
    database_url: str, found: str, declared: FieldType
):
    field = Field(name="voltage", type=declared, kind="gauge")
    migrate(database_url, None, [with_field(field)])
    with connect(database_url, application_name="test") as conn:
        conn.execute(f"alter table energy_readings alter column voltage type {found}")
        conn.execute(
            "insert into energy_readings (device_id, timestamp, received_at, voltage) values ('m', now(), now(), 230)"
        )
    migrate(database_url, None, [with_field(field)])
    with connect(database_url, application_name="test") as conn:
        assert conn.execute("select voltage from energy_readings").fetchall() == [(230,)]
    assert type_of(database_url, "voltage") == field.sql_type


def test_a_column_is_never_narrowed(database_url: str):
    migrate(database_url, None, [ENERGY])
    with pytest.raises(ConfigError, match="voltage is double precision"):
        migrate(database_url, None, [with_field(Field(name="voltage", type="smallint", kind="gauge"))])


def test_widening_waits_for_those_who_use_the_table_and_lets_others_pass(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(widening, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(widening, "PAUSE_S", 0.05)
    narrow = with_field(Field(name="phase", type="smallint", kind="state"))
    migrate(database_url, None, [narrow])
    wide = with_field(Field(name="phase", type="integer", kind="state"))
    failures: list[Exception] = []

    def widen() -> None:
        try:
            migrate(database_url, None, [wide])
        except Exception as exc:  # noqa: BLE001 - asserted on below
            failures.append(exc)

    migration = threading.Thread(target=widen)
    with connect(database_url, application_name="test") as reader, reader.transaction():
        reader.execute("select from energy_readings")
        with capture_logs() as logs:
            migration.start()
            eventually(lambda: "table_in_use" in [entry["event"] for entry in logs])
        with connect(database_url, application_name="test") as writer:
            writer.execute(
                "insert into energy_readings (device_id, timestamp, received_at, phase) values ('m', now(), now(), 1)"
            )
    migration.join(timeout=60)
    assert failures == []
    assert type_of(database_url, "phase") == "bigint"


def test_a_view_on_the_column_is_named_and_everything_stays(database_url: str):
    migrate(database_url, None, [with_field(Field(name="phase", type="smallint", kind="state"))])
    with connect(database_url, application_name="test") as conn:
        conn.execute("create view phases as select phase from energy_readings")
    with pytest.raises(ConfigError, match="used by a view"):
        migrate(database_url, None, [with_field(Field(name="phase", type="integer", kind="state"))])
    assert type_of(database_url, "phase") == "smallint"


async def _latest_before_and_after(url: str, between: Callable[[], None]) -> list[list[Reading]]:
    queries = ReadingQueries(url, "test")
    await queries.open()
    try:
        # Often enough that the driver prepares the query.
        before = [await queries.latest(ENERGY) for _ in range(10)]
        between()
        return [*before, await queries.latest(ENERGY)]
    finally:
        await queries.close()


def test_a_query_that_was_prepared_before_a_widening_is_answered_after_it(database_url: str):
    migrate(database_url, None, [ENERGY])
    with connect(database_url, application_name="test") as conn:
        conn.execute("alter table energy_readings alter column voltage type real")
        conn.execute(
            "insert into energy_readings (device_id, timestamp, received_at, voltage) values ('m', now(), now(), 230)"
        )
    found = asyncio.run(_latest_before_and_after(database_url, lambda: migrate(database_url, None, [ENERGY])))
    assert [reading.values[2] for [reading] in found] == [230.0] * 11


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


def test_counts_from_before_offsets_were_kept_balance_after_the_migration(database_url: str):
    with connect(database_url, application_name="test") as conn, conn.transaction():
        conn.execute(
            "create schema hl; create table hl.migrations (version integer primary key, name text not null, "
            "checksum text not null, applied_at timestamptz not null default now())"
        )
        for migration in load_migrations()[:3]:
            conn.execute(migration.statements.encode())
            conn.execute(
                "insert into hl.migrations values (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
        conn.execute(
            "insert into hl.accounts (service, stage, stream, received, forwarded, dead_lettered) "
            "values ('bridge', 'bridge', 'energy', 90, 85, 5), ('sink', 'sink', 'energy', 85, 85, 0)"
        )
        for partition, next_offset in ((0, 1_000), (1, 40)):
            conn.execute(
                "insert into hl.offsets (consumer_group, kafka_topic, kafka_partition, next_offset, epoch, service) "
                "values (%s, %s, %s, %s, 1, 'sink')",
                (ENERGY.consumer_group, ENERGY.kafka_topic, partition, next_offset),
            )
    migrate(database_url, None, [ENERGY])
    found = compare(read_ledger(database_url), ENERGY, None)
    assert {difference.stage: difference.n_records for difference in found} == dict.fromkeys(STAGES, 0)
