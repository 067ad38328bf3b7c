"""The incident of the origin system: a value that its 16-bit column cannot hold, 33700, in the middle of traffic."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.dead_letter_index import Selection
from hl_platform.core.dead_letters import DeadLetter
from hl_platform.core.streams import Field, FieldType
from hl_platform.pipeline.reprocess import Outcome, reprocessing
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import Home, eventually, reading

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
TOO_LARGE = 33_700


@pytest.fixture
def house(database_url: str, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto) -> Home:
    """A household without tables and topics yet."""
    return Home(database_url, kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))


def declare_voltage(house: Home, field_type: FieldType) -> None:
    voltage = Field(name="voltage", type=field_type, kind="gauge", unit="V")
    fields = tuple(voltage if field.name == "voltage" else field for field in house.energy.fields)
    house.streams["energy"] = msgspec.structs.replace(house.energy, fields=fields)


@contextmanager
def traffic(house: Home) -> Iterator[Callable[[], int]]:
    """Another meter publishes all the time; the number of its readings so far is yielded as a function."""
    stop = threading.Event()
    n_sent = 0

    def send() -> None:
        nonlocal n_sent
        while not stop.wait(0.02):
            house.publish((house.topic("meter-good"), reading()))
            n_sent += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield lambda: n_sent
    finally:
        stop.set()
        sender.join()


def n_good(house: Home) -> int:
    return int(house.query("select count(*) from {energy} where device_id = 'meter-good'")[0][0])


def publish_incident(house: Home) -> None:
    values = [(0, 100.0, 230), (30, 103.0, 231), (60, 105.0, TOO_LARGE)]
    for minute, total, voltage in values:
        at = NOON + timedelta(minutes=minute)
        house.publish(
            (house.topic("meter1"), reading(at, total_energy_kwh=total, power_kw=3, voltage=voltage))
        )


def voltages(house: Home) -> list[int]:
    return [
        voltage
        for (voltage,) in house.query(
            "select voltage from {energy} where device_id = 'meter1' order by timestamp"
        )
    ]


def consumption_of_the_hour(house: Home) -> float:
    streams = {house.energy.name: house.energy}
    with closing(SqlDatabase(house.env["HL_DATABASE__URL"], "test", BULK)) as db:
        deploy(db, load_project(streams), "UTC", "test")
        model = f"{house.energy.name}_hourly"
        [[consumption]] = db.rows(
            f"select consumption_kwh from {model} where device_id = 'meter1' and bucket = %(noon)s",  # noqa: S608
            {"noon": NOON},
        )
    return float(consumption)


def the_dead_letter(house: Home) -> DeadLetter:
    [dead] = eventually(lambda: house.records(house.energy.dead_letter_topic))
    return DeadLetter.from_headers(dead.headers() or [])


def replay(house: Home) -> Outcome:
    """What `hl dlq replay` does, once the index has the dead letter."""
    of_energy = Selection(stream=house.energy.name)
    indexed = "select from hl.dead_letters where stream = %s"
    eventually(lambda: house.query(indexed, house.energy.name))
    with reprocessing(house.settings, {stream.name: stream for stream in house.streams.values()}) as work:
        return work.apply(of_energy, "tester")


def test_what_a_column_cannot_hold_is_set_aside_and_counted_once_the_column_was_widened(house: Home):
    declare_voltage(house, "integer")
    house.prepare()
    with psycopg.connect(house.env["HL_DATABASE__URL"]) as conn:
        conn.execute(f"alter table {house.energy.table} alter column voltage type smallint")
    with house.running("bridge", "sink"), traffic(house) as n_sent:
        publish_incident(house)
        letter = the_dead_letter(house)
        n_before = n_sent()
        eventually(lambda: n_good(house) > n_before)
        without = consumption_of_the_hour(house)
        house.prepare()
        outcome = replay(house)
    n_all = n_sent()
    with house.running("bridge", "sink"):
        eventually(lambda: n_good(house) == n_all)
    assert (letter.stage, letter.sqlstate, letter.column, letter.attempts) == ("sink", "22003", "voltage", 3)
    assert (outcome.n_stored, outcome.complete) == (1, True)
    assert voltages(house) == [230, 231, TOO_LARGE]
    assert (without, consumption_of_the_hour(house)) == (3.0, 5.0)
    assert len(house.records(house.energy.dead_letter_topic)) == 1
    assert house.account("sink")["dead_lettered"] == 1


def test_what_a_declaration_refuses_is_set_aside_and_stored_once_it_was_changed_and_handed_over(house: Home):
    declare_voltage(house, "smallint")
    house.prepare()
    with traffic(house) as n_sent, house.running("bridge", "sink"):
        publish_incident(house)
        letter = the_dead_letter(house)
        n_before = n_sent()
        eventually(lambda: n_good(house) > n_before)
        declare_voltage(house, "integer")
        house.prepare()
        with house.running("bridge", "sink"):
            eventually(lambda: {epoch for (epoch,) in house.query("select epoch from hl.leases")} == {2})
            outcome = replay(house)
            n_after = n_sent()
            eventually(lambda: n_good(house) >= n_after)
    assert (letter.stage, letter.reason, letter.attempts) == ("bridge", "invalid", 1)
    assert "voltage" in letter.detail
    assert (outcome.n_stored, outcome.complete) == (1, True)
    assert voltages(house) == [230, 231, TOO_LARGE]
    assert consumption_of_the_hour(house) == 5.0
    assert house.account("sink")["dead_lettered"] == 0
