"""A household of several streams, two of them its own, with readings and a pipeline that has run."""

from contextlib import closing
from pathlib import Path

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.histogram import DelayHistogram
from hl_platform.streams import load_streams
from tests.servers import Database

SOLAR = """
name = "solar"
mqtt_filter = "house/solar/#"
kafka_topic = "house.solar"
table = "solar_readings"

[fields.yield_kwh]
type = "float"
kind = "counter"
unit = "kWh"

[fields.irradiance]
type = "float"
kind = "gauge"
unit = "W/m²"

[fields.inverter]
type = "text"
kind = "state"

[fields.feeding]
type = "boolean"
kind = "state"

[fields.roof]
type = "text"
kind = "label"
"""
AIR = """
name = "air"
mqtt_filter = "house/air/#"
kafka_topic = "house.air"
table = "air_readings"

[fields.power]
type = "float"
kind = "gauge"
unit = "W"

[fields.fan]
type = "smallint"
kind = "state"
unit = "rpm"
"""
COST = """/*
name: {name}
description: What energy costs, at one price.
materialization: view
grain: [device_id, bucket]
columns: {{device_id: Which meter, bucket: Its begin}}
*/
select device_id, bucket, bucket_end, consumption_kwh, consumption_kwh * 0.3 as cost, 'EUR' as currency
from {{{{ ref('energy_{view}') }}}}
"""
# Times: two long ago, each hour of three days, each five minutes until now.
TIMES = """
select now() - interval '700 days' + n * interval '10 minutes' from generate_series(0, 1) as n
union select now() - interval '74 hours' + n * interval '1 hour' from generate_series(0, 71) as n
union select now() - interval '2 hours' + n * interval '5 minutes' from generate_series(0, 23) as n
"""
ROWS = {
    "energy_readings": "total_energy_kwh, power_kw, voltage, current) "
    "select d, t, extract(epoch from t) / 3600, 1, 230, 4",
    "heatpump_status": "mode, target_temp, actual_temp, compressor_running, power_consumption_kw) "
    "select d, t, case when mod(extract(minute from t)::int, 2) = 0 then 'heating' else 'off' end, 21, 20, "
    "mod(extract(minute from t)::int, 2) = 0, 2",
    "temperature_readings": "room, temperature, humidity) select d, t, 'kitchen', 20, 50",
    "solar_readings": "yield_kwh, irradiance, inverter, feeding, roof) select d, t, extract(epoch from t) / 1e6, 300, "
    "'on', true, 'south'",
    "air_readings": "power, fan) select d, t, 40, 1",
}
# A name that ends a string which is not quoted with care.
DEVICES = ("cellar", "it's")
PIPELINE = """
insert into hl.accounts (service, stage, stream, received, forwarded, in_flight, last_reading_at)
values ('bridge', 'bridge', 'energy', 100, 99, 1, now()), ('sink-energy', 'sink', 'energy', 90, 90, 0, null);
insert into hl.coverage (stage, bridge, stream, kind, kafka_topic, kafka_partition, n_records, next_offset)
values ('bridge', 'bridge', 'energy', 'forwarded', 'homelab.energy', 0, 99, 99),
       ('sink', 'bridge', 'energy', 'forwarded', 'homelab.energy', 0, 90, 90);
insert into hl.offsets (consumer_group, kafka_topic, kafka_partition, next_offset, epoch, service)
values ('timescaledb-energy', 'homelab.energy', 0, 90, 1, 'sink-energy'),
       ('timescaledb-energy', 'homelab.energy', 1, 7, 1, 'sink-energy');
insert into hl.leases (service, stage, epoch, instance_id, run_id, host, pid, software_version, acquired_at, beat_at)
values ('bridge', 'bridge', 1, 'i', 'r', 'h', 1, '0', now(), now() - interval '3 seconds');
insert into hl.alerts (service, stream, code, message) values ('bridge', '', 'queue', 'The queue is nearly full.');
insert into hl.balances (stream, stage, from_at, to_at, n_records, explanation)
values ('energy', 'bridge', now() - interval '1 hour', now(), 0, ''), ('energy', 'sink', now(), now(), -2, 'Two lack.')
"""


def load_household(directory: Path) -> Project:
    """The built-in streams and two of the household's own, with the views of what energy costs."""
    (directory / "solar.toml").write_text(SOLAR)
    (directory / "air.toml").write_text(AIR)
    for view in ("hourly", "daily", "monthly"):
        name = f"energy_cost_{view}"
        (directory / f"{name}.sql").write_text(COST.format(name=name, view=view))
    return load_project(load_streams(str(directory)), str(directory))


def delays() -> tuple[DelayHistogram, DelayHistogram]:
    """Of two services: many short delays, and some beyond the last bucket's bound."""
    short, long = DelayHistogram(), DelayHistogram()
    for milliseconds in range(1, 300):
        short.add(milliseconds / 7, n=1 + milliseconds % 3)
    long.add(5_000_000, n=4)
    return short, long


def make_household(database: Database, project: Project) -> None:
    """Tables, models, readings, most of it materialized and some dirty; and what a pipeline leaves in schema hl."""
    migrate(database.url, database.read_url, project.streams.values())
    with closing(SqlDatabase(database.url, "hl-test", BULK)) as db:
        deploy(db, project, "Europe/Berlin", "test")
        _insert(db, TIMES)
        refresher = Refresher(db, project, "test")
        for model in project.aggregates():
            refresher.refresh(model, limit=100_000)
        # Late, and so dirty in every level.
        _insert(db, "select now() - interval '50 hours 10 minutes'")
    with connect(database.url, application_name="hl-test") as conn:
        conn.execute(PIPELINE)
        for service, histogram in zip(("one", "two"), delays(), strict=True):
            conn.execute(
                "insert into hl.delays values (%s, 'device_to_row', date_trunc('minute', now()), %s, %s)",
                (service, histogram.counts, histogram.max_ms),
            )


def _insert(db: SqlDatabase, times: str) -> None:
    for table, rest in ROWS.items():
        values = rest.replace("select d, t,", "select d, t, t,")
        source = f"unnest(%(devices)s::text[]) as d cross join ({times}) as times (t)"
        db.rows(
            f"insert into {table} (device_id, timestamp, received_at, {values} from {source}",
            {"devices": list(DEVICES)},
        )
