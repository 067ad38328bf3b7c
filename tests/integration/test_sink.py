import threading
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.core.accounts import Account
from hl_platform.core.errors import FencedError
from hl_platform.core.positions import Reached
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import Home, eventually, record

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def test_reading_on_kafka_is_a_row_with_all_its_values(home: Home):
    with home.running("sink"):
        home.produce(record("meter1", NOON, fw="1.2", nested={"rssi": -60}))
        eventually(home.n_rows)
    [row] = home.query(
        "select device_id, timestamp, total_energy_kwh, power_kw, voltage, current, extra, corrections from {energy}"
    )
    assert row == ("meter1", NOON, 12.45, 3.2, 230.0, 13.9, {"fw": "1.2", "nested": {"rssi": -60}}, 0)


def test_the_same_reading_again_changes_nothing_and_is_counted(home: Home):
    with home.running("sink"):
        home.produce(record("meter1", NOON))
        eventually(home.n_rows)
        before = home.query("select ingested_at from {energy}")
        home.produce(record("meter1", NOON))
        eventually(lambda: home.account("sink")["duplicates"] == 1)
    assert home.query("select ingested_at from {energy}") == before


def test_other_values_for_the_same_timestamp_are_a_correction_that_wins(home: Home):
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=1))
        eventually(home.n_rows)
        home.produce(record("meter1", NOON, power_kw=2))
        eventually(lambda: home.account("sink")["corrected"] == 1)
    assert home.query("select power_kw, corrections from {energy}") == [(2.0, 1)]


def test_the_last_of_several_in_one_batch_wins(home: Home):
    home.produce(*(record("meter1", NOON, power_kw=power) for power in (1, 1, 2, 3)))
    with home.running("sink"):
        eventually(home.n_rows)
    account = home.account("sink")
    assert home.query("select power_kw from {energy}") == [(3.0,)]
    assert (account["received"], account["forwarded"], account["duplicates"], account["corrected"]) == (
        4,
        1,
        1,
        2,
    )


def test_late_reading_of_any_age_is_stored(home: Home):
    years_ago, days_ago = NOON.replace(year=2016), datetime.now(UTC) - timedelta(days=30)
    with home.running("sink"):
        home.produce(record("meter1", years_ago), record("meter1", days_ago))
        eventually(home.n_rows, lambda n: n == 2)
    partitions = home.query("select tableoid::regclass::text from {energy} order by timestamp")
    assert partitions == [
        (f"{home.energy.table}_older",),
        (f"{home.energy.table}_p{days_ago:%Y%m%d}",),
    ]


def test_invalid_record_is_a_dead_letter_and_stops_nobody(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"), record("meter1", NOON))
        eventually(home.n_rows)
    [dead] = home.records(home.energy.dead_letter_topic)
    headers = dict(dead.headers())
    assert dead.value() == b"{nonsense"
    assert headers["hl.stage"] == b"sink"
    assert headers["hl.kafka_topic"] == home.energy.kafka_topic.encode()
    assert headers["hl.offset"].isdigit()


def test_what_the_database_rejects_is_found_and_the_rest_of_the_batch_lands(home: Home):
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute(f"alter table {home.energy.table} add check (power_kw <> 66)")
    home.produce(
        *(record("meter1", NOON + timedelta(seconds=n), power_kw=66 if n == 700 else 1) for n in range(1000))
    )
    with home.running("sink"):
        eventually(home.n_rows, lambda n: n == 999)
    [dead] = home.records(home.energy.dead_letter_topic)
    account = home.account("sink")
    assert msgspec.json.decode(dead.value())["power_kw"] == 66
    assert dict(dead.headers())["hl.reason"] == b"sqlstate_23514"
    assert (account["received"], account["forwarded"], account["dead_lettered"]) == (1000, 999, 1)


def test_a_process_whose_lease_another_holds_can_claim_no_partition(home: Home):
    zombie, successor = home.sink_store("sink"), home.sink_store("sink")
    successor.claim(0, 0, None)
    with pytest.raises(FencedError):
        zombie.claim(0, 0, None)
    assert home.query("select epoch from hl.offsets where kafka_partition = 0") == [(1,)]
    zombie.close()
    successor.close()


def test_a_writer_whose_partition_was_claimed_by_another_writes_nothing(home: Home):
    zombie, successor = home.sink_store("sink-1"), home.sink_store("sink-2")
    stale = zombie.claim(0, 0, None)
    successor.claim(0, 0, None)
    with pytest.raises(FencedError):
        zombie.write(make_rows([]), {0: stale}, {0: Reached(5)}, Account(received=5), {})
    assert home.query("select next_offset from hl.offsets where kafka_partition = 0") == [(0,)]
    assert home.account("sink")["received"] == 0
    zombie.close()
    successor.close()


def test_offsets_beyond_the_end_of_the_topic_make_the_sink_read_it_again(home: Home):
    home.produce(record("meter1", NOON), record("meter1", NOON + timedelta(seconds=1)))
    with home.running("sink"):
        eventually(home.n_rows, lambda n: n == 2)
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute("update hl.offsets set next_offset = next_offset + 1000")
    home.produce(record("meter1", NOON + timedelta(seconds=2)))
    with home.running("sink"):
        eventually(home.n_rows, lambda n: n == 3)
    assert home.account("sink")["duplicates"] == 2


def test_a_second_sink_takes_over_in_order_and_the_first_ends_by_itself(home: Home):
    reports = []
    first_stop, second_stop = threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: reports.append(home.run("sink", first_stop)))
    second = threading.Thread(target=lambda: reports.append(home.run("sink", second_stop)))
    first.start()
    home.produce(record("meter1", NOON))
    eventually(home.n_rows)
    second.start()
    first.join(timeout=30)
    home.produce(record("meter1", NOON + timedelta(seconds=1)))
    eventually(home.n_rows, lambda n: n == 2)
    second_stop.set()
    second.join(timeout=30)
    assert [report.reason for report in reports] == ["handed_over", "stopped"]
    assert home.account("sink")["duplicates"] == 0


def test_every_stream_is_stored_by_one_sink(home: Home):
    with home.running("sink"):
        body = {"timestamp": NOON, "device_id": "d1", "received_at": NOON}
        heatpump = {**body, "mode": "heating", "compressor_running": True, "power_consumption_kw": 1.5}
        room = {**body, "room": "attic", "temperature": 19.5, "humidity": 41}
        home.produce(("d1", msgspec.json.encode(heatpump)), stream="heatpump")
        home.produce(("d1", msgspec.json.encode(room)), stream="temperature")
        eventually(lambda: home.query("select mode, compressor_running from heatpump_status"))
        eventually(lambda: home.query("select room, temperature from temperature_readings"))
    assert home.query("select mode, compressor_running from heatpump_status") == [("heating", True)]
    assert home.query("select room, temperature from temperature_readings") == [("attic", 19.5)]


def test_an_outage_of_the_database_is_waited_out_without_dead_letters(
    home_on_own_postgres: Home, own_postgres: EmbeddedPostgres
):
    home = home_on_own_postgres
    with home.running("sink"):
        home.produce(record("meter1", NOON))
        eventually(home.n_rows)
        own_postgres.kill()
        home.produce(*(record("meter1", NOON + timedelta(seconds=n)) for n in range(1, 100)))
        home.produce(("meter1", b"bad"))
        own_postgres.start()
        own_postgres.wait_ready()
        eventually(home.n_rows, lambda n: n == 100)
    assert len(home.records(home.energy.dead_letter_topic)) == 1
    assert home.account("sink")["duplicates"] == 0
