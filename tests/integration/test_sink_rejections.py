"""What the database rejects: found in few statements, tried three times, and then a dead letter."""

import random
import string
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from msgspec.structs import replace

from hl_platform.adapters.kafka.consumer import GroupConsumer
from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.accounts import Account, StageStats
from hl_platform.core.errors import InvariantError
from hl_platform.core.positions import Reached
from hl_platform.core.readings import Reading
from hl_platform.pipeline import breaker
from hl_platform.pipeline.breaker import Breaker
from tests.home import Home, eventually, record

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
FOR_EVER_S = 3_600.0


def alter(home: Home, *statements: str) -> None:
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        for statement in statements:
            conn.execute(statement.replace("{energy}", home.energy.table))


def refuse(home: Home, condition: str, raising: str) -> None:
    """Has the table run PL/pgSQL when a row of that condition is written."""
    alter(
        home,
        f"create function refuse() returns trigger language plpgsql as $$ begin {raising}; return new; end $$",
        f"create trigger refuse before insert or update on {{energy}} for each row when ({condition}) "
        "execute function refuse()",
    )


def random_text(n_chars: int) -> str:
    """Text that PostgreSQL cannot compress; the same in every run."""
    rng = random.Random(n_chars)
    return "".join(rng.choices(string.ascii_letters + string.digits, k=n_chars))


def a_reading(n: int, power_kw: float = 1.0, extra: str | None = None) -> Reading:
    return Reading("meter1", NOON + timedelta(seconds=n), (n, power_kw, 230.0, 1.0), extra, NOON)


@pytest.fixture
def store(home: Home) -> Iterator[SinkStore]:
    made = home.sink_store("sink")
    yield made
    made.close()


def n_statements(store: SinkStore, readings: list[Reading]) -> int:
    """How many statements it takes to find the rejected ones, by the protocol's own trace."""
    with tempfile.TemporaryFile() as trace:
        store._conn.pgconn.trace(trace.fileno())
        store.find_rejected(readings)
        store._conn.pgconn.untrace()
        trace.seek(0)
        lines = [line.split(b"\t") for line in trace.read().splitlines()]
    return sum(line[1:2] == [b"F"] and line[3] in (b"Query", b"Execute") for line in lines)


@pytest.mark.parametrize("bad", [0, 4_999, 5_000, 9_999])
def test_one_bad_row_among_ten_thousand_costs_few_statements(home: Home, store: SinkStore, bad: int):
    alter(home, "alter table {energy} add check (power_kw <> 66)")
    store.claim(0, 0, None)
    readings = [a_reading(n, 66 if n == bad else 1) for n in range(10_000)]
    assert 17 < n_statements(store, readings) < 40


def test_finding_what_is_rejected_changes_nothing(home: Home, store: SinkStore):
    alter(home, "alter table {energy} add check (power_kw <> 66)")
    [(index, fault)] = store.find_rejected([a_reading(0), a_reading(1, 66), a_reading(2)])
    assert (index, fault.sqlstate) == (1, "23514")
    assert home.n_rows() == 0


def test_of_two_rows_that_contradict_each_other_the_later_is_rejected(home: Home, store: SinkStore):
    alter(home, "create unique index on {energy}_older (power_kw)")
    years_ago = [replace(a_reading(n), timestamp=NOON.replace(year=2016 + n)) for n in range(2)]
    assert [index for index, _ in store.find_rejected(years_ago)] == [1]


def test_what_is_checked_at_commit_only_is_found_too(home: Home, store: SinkStore):
    alter(
        home,
        "create function check_later() returns trigger language plpgsql as "
        "$$ begin raise check_violation; end $$",
        "create constraint trigger later after insert on {energy}_older deferrable initially deferred "
        "for each row when (new.power_kw = 66) execute function check_later()",
    )
    years_ago = [a_reading(n, 66 if n == 1 else 1) for n in range(3)]
    years_ago = [replace(reading, timestamp=reading.timestamp.replace(year=2016)) for reading in years_ago]
    assert [index for index, _ in store.find_rejected(years_ago)] == [1]


def test_a_reading_that_cannot_even_be_staged_is_found(store: SinkStore):
    nul = replace(a_reading(1), device_id="meter\x00")
    [(index, fault)] = store.find_rejected([a_reading(0), nul, a_reading(2)])
    assert (index, fault.reason) == (1, "sqlstate_22021")


def test_an_older_reading_does_not_undo_a_later_correction(home: Home, store: SinkStore):
    claim = store.claim(0, 0, None)
    newer, older = a_reading(0, 2), replace(a_reading(0, 1), received_at=NOON - timedelta(seconds=1))
    store.write(make_rows([newer]), {0: claim}, {0: Reached(1)}, Account(received=1), {})
    account = Account(received=1)
    store.write(make_rows([older]), {0: claim._replace(next_offset=1)}, {0: Reached(2)}, account, {})
    assert account.duplicates == 1
    assert home.query("select power_kw, corrections from {energy}") == [(2.0, 0)]


def test_a_reading_received_at_the_same_time_is_a_correction(home: Home, store: SinkStore):
    claim = store.claim(0, 0, None)
    store.write(make_rows([a_reading(0, 2)]), {0: claim}, {0: Reached(1)}, Account(received=1), {})
    there = {0: claim._replace(next_offset=1)}
    store.write(make_rows([a_reading(0, 1)]), there, {0: Reached(2)}, Account(received=1), {})
    assert home.query("select power_kw, corrections from {energy}") == [(1.0, 1)]


def test_what_is_rejected_three_times_is_a_dead_letter_with_its_tries(home: Home):
    alter(home, "alter table {energy} add constraint not_66 check (power_kw <> 66)")
    home.produce(record("meter1", NOON, power_kw=66), record("meter1", NOON + timedelta(seconds=1)))
    with home.running("sink"):
        eventually(home.n_rows)
    [dead] = home.records(home.energy.dead_letter_topic)
    headers = dict(dead.headers())
    assert headers["hl.attempts"] == b"3"
    assert headers["hl.sqlstate"] == b"23514"
    assert headers["hl.column"] == b"not_66"
    assert headers["hl.first_failed_at"] < headers["hl.last_failed_at"]


def test_what_cannot_be_decoded_is_tried_once(home: Home):
    home.produce(("meter1", b"{nonsense"), record("meter1", NOON))
    with home.running("sink"):
        eventually(home.n_rows)
    [dead] = home.records(home.energy.dead_letter_topic)
    assert dict(dead.headers())["hl.attempts"] == b"1"


def test_a_fault_that_passes_within_three_tries_is_no_dead_letter(home: Home):
    alter(home, "create sequence tries")
    # A sequence remembers what a rolled-back transaction drew: rejected are the batch and the first two tries.
    refuse(home, "new.power_kw = 66", "if nextval('tries') < 4 then raise check_violation; end if")
    home.produce(record("meter1", NOON, power_kw=66))
    with home.running("sink"):
        eventually(home.n_rows)
    assert home.records(home.energy.dead_letter_topic) == []
    assert home.account("sink")["dead_lettered"] == 0


def test_an_outage_between_two_tries_is_none_of_them(home: Home):
    alter(home, "create sequence tries")
    # Rejected are the batch and the first try, then comes an outage, and then everything begins anew.
    refuse(
        home,
        "new.power_kw = 66",
        "if nextval('tries') = 3 then raise admin_shutdown; end if; "
        "if currval('tries') < 7 then raise check_violation; end if",
    )
    home.produce(record("meter1", NOON, power_kw=66))
    with home.running("sink"):
        eventually(home.n_rows)
    assert home.records(home.energy.dead_letter_topic) == []


def test_an_unknown_error_is_retried(home: Home):
    alter(home, "create sequence tries")
    refuse(home, "true", "if nextval('tries') < 3 then raise exception using errcode = 'HL001'; end if")
    home.produce(record("meter1", NOON))
    with home.running("sink"):
        eventually(home.n_rows)
    assert home.records(home.energy.dead_letter_topic) == []


def test_an_unknown_error_that_stays_stops_the_sink_and_discards_nothing(home: Home):
    refuse(home, "new.power_kw = 66", "raise exception using errcode = 'HL001'")
    home.produce(record("meter1", NOON, power_kw=66))
    with pytest.raises(InvariantError, match="HL001"), home.running("sink"):
        eventually(lambda: home.query("select released_at from hl.leases where released_at is not null"))
    assert home.records(home.energy.dead_letter_topic) == []
    assert sum(offset for (offset,) in home.query("select next_offset from hl.offsets")) == 0


def test_a_batch_that_is_rejected_for_no_row_of_it_stops_the_sink_and_discards_nothing(home: Home):
    alter(home, "alter table hl.accounts add check (stage <> 'sink' or received < 1)")
    home.produce(record("meter1", NOON))
    with pytest.raises(InvariantError, match="no record of it"), home.running("sink"):
        eventually(lambda: home.query("select released_at from hl.leases where released_at is not null"))
    assert home.records(home.energy.dead_letter_topic) == []


def test_a_record_of_any_program_stops_nobody(home: Home):
    _, value = record("meter1", NOON)
    nameless = {**msgspec.json.decode(value), "source": {"bridge": "a\0b"}}
    long_named = {**msgspec.json.decode(value), "source": {"bridge": random_text(4_000)}}
    home.produce(
        ("meter1", msgspec.json.encode(nameless)),
        ("meter1", msgspec.json.encode(long_named)),
        # A dead letter has the key as its own, and in a header.
        (random_text(600_000), b"{nonsense"),
        (random_text(90_000), b"?" * 890_000),
        (random_text(3_000), b"{nonsense"),
        record("meter1", NOON + timedelta(seconds=1)),
    )
    with home.running("sink"):
        eventually(home.n_rows, lambda n: n == 2)
        eventually(lambda: home.query("select count(*) from hl.dead_letters"), lambda rows: rows == [(4,)])
    letters = home.records(home.energy.dead_letter_topic)
    assert sorted(len(letter.key() or b"") for letter in letters) == [0, 0, 6, 3_000]
    assert max(len(letter.value()) for letter in letters) == 890_000
    assert home.account("sink")["received"] == 6
    assert home.query("select distinct bridge from hl.coverage where stage = 'sink'") == [("",)]


def test_a_value_that_does_not_fit_into_an_index_is_a_dead_letter(home: Home):
    alter(home, "create index on {energy} ((extra::text))")
    _, value = record("meter1", NOON)
    home.produce(
        ("meter1", msgspec.json.encode({**msgspec.json.decode(value), "note": random_text(8_000)})),
        record("meter1", NOON + timedelta(seconds=1)),
    )
    with home.running("sink"):
        eventually(home.n_rows)
        eventually(lambda: home.account("sink")["dead_lettered"])
    [dead] = home.records(home.energy.dead_letter_topic)
    assert dict(dead.headers())["hl.reason"] == b"sqlstate_54000"


def test_a_replay_that_is_rejected_again_says_what_it_replays(home: Home):
    home.produce(("meter1", b"{nonsense"), headers={"hl.replay_of": b"some.dlq/0/7"})
    with home.running("sink"):
        eventually(lambda: home.account("sink")["dead_lettered"])
    [dead] = home.records(home.energy.dead_letter_topic)
    assert dict(dead.headers())["hl.replay_of"] == b"some.dlq/0/7"


def test_of_several_in_one_batch_the_one_received_last_wins(home: Home):
    def received(at: datetime, power_kw: float) -> tuple[str, bytes]:
        key, value = record("meter1", NOON, power_kw=power_kw)
        return key, msgspec.json.encode({**msgspec.json.decode(value), "received_at": at})

    old, new = received(NOON, 1), received(NOON + timedelta(hours=1), 2)
    home.produce(old, new, old)
    with home.running("sink"):
        eventually(home.n_rows)
    account = home.account("sink")
    assert home.query("select power_kw from {energy}") == [(2.0,)]
    assert (account["forwarded"], account["corrected"], account["duplicates"]) == (1, 1, 1)


def test_a_flood_pauses_its_stream_and_no_other_and_all_of_it_is_dealt_with(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    # No probe passes before the test says so, however long the rest takes.
    monkeypatch.setattr(breaker, "PROBE_EVERY_S", FOR_EVER_S)
    breakers: list[Breaker] = []
    alerts: list[tuple[str, str]] = []
    raised = StageStats.alert

    def alert(stats: StageStats, stream: str, code: str, message: str) -> None:
        alerts.append((stream, code))
        raised(stats, stream, code, message)

    monkeypatch.setattr(StageStats, "alert", alert)
    count = Breaker.count

    def counting(self: Breaker, now_s: float, n_records: int, n_rejected: int) -> None:
        breakers.append(self)
        count(self, now_s, n_records, n_rejected)

    monkeypatch.setattr(Breaker, "count", counting)
    with home.running("sink"):
        home.produce(*[("meter1", b"{nonsense")] * 1_500)
        eventually(lambda: alerts)
        home.produce(*[("meter1", b"{nonsense")] * 300, record("meter1", NOON))
        room = {"timestamp": NOON, "room": "attic", "temperature": 19.5, "humidity": 41}
        home.produce(("d1", msgspec.json.encode(room)), stream="temperature")
        eventually(lambda: home.query("select room from temperature_readings"))
        n_while_paused = home.account("sink")["dead_lettered"]
        monkeypatch.setattr(breaker, "PROBE_EVERY_S", 0.5)
        for each in breakers:
            if each.is_open:
                each._probe_at_s = 0.0
        eventually(home.n_rows)
    assert alerts[0] == (home.energy.name, "breaker_open")
    assert n_while_paused < 1_800
    assert home.account("sink")["dead_lettered"] == 1_800
    assert len(home.records(home.energy.dead_letter_topic)) == 1_800


def test_replays_that_fail_again_pause_nothing(home: Home, monkeypatch: pytest.MonkeyPatch):
    # A stream that were paused would stay so.
    monkeypatch.setattr(breaker, "PROBE_EVERY_S", FOR_EVER_S)
    home.produce(*[("meter1", b"{nonsense")] * 1_500, headers={"hl.replay_of": b"some.dlq/0/7"})
    home.produce(record("meter1", NOON))
    with home.running("sink"):
        eventually(home.n_rows)


def test_a_paused_consumer_reads_on_where_it_stopped_and_from_where_it_is_sent(home: Home):
    home.produce(*(("meter1", str(n).encode()) for n in range(10)))
    consumer = GroupConsumer(home.settings.kafka, f"{home.prefix}-pause", home.energy.kafka_topic, "pause")
    try:
        partitions = eventually(lambda: [consumer.consume(1, 0), consumer.take_assignment()][1]) or []
        consumer.start_at(dict.fromkeys(partitions, 0))
        first = eventually(lambda: consumer.consume(2, 5))
        consumer.pause()
        assert consumer.consume(10, 0) == []
        consumer.resume()
        then = eventually(lambda: consumer.consume(2, 5))
        consumer.pause()
        consumer.start_at(dict.fromkeys(partitions, 0))
        again = eventually(lambda: consumer.consume(1, 0))
    finally:
        consumer.close()
    assert [record.value for record in (*first, *then, *again)] == [b"0", b"1", b"2", b"3", b"0"]
