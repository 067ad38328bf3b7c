"""Reprocessing on real servers: what was rejected is stored once its cause is mended, and nothing is twice."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from hl_platform.adapters.postgres.dead_letters import DeadLetterIndex
from hl_platform.core.dead_letter_index import Selection
from hl_platform.pipeline import judge, reprocess
from hl_platform.pipeline.reprocess import Outcome, reprocessing
from tests.home import Home, eventually, reading, record

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
OPEN = Selection()
ANY = Selection(states=None)


def states(home: Home) -> list[str]:
    """Of the entries of the energy stream: a bridge that comes up leaves one of another stream."""
    rows = home.query("select state from hl.dead_letters where stream = %s order by id", home.energy.name)
    return [state for (state,) in rows]


def indexed(home: Home, n: int) -> None:
    eventually(lambda: states(home), lambda found: len(found) == n)


def limit_voltage(home: Home, maximum: float | None) -> None:
    """Declares the energy stream's voltage anew."""
    fields = tuple(
        msgspec.structs.replace(field, maximum=maximum) if field.name == "voltage" else field
        for field in home.energy.fields
    )
    home.streams["energy"] = msgspec.structs.replace(home.energy, fields=fields)


def forbid(home: Home, *, power_kw: float) -> None:
    execute(home, f"alter table {home.energy.table} add constraint forbidden check (power_kw <> {power_kw})")


def allow(home: Home) -> None:
    execute(home, f"alter table {home.energy.table} drop constraint forbidden")


def execute(home: Home, statement: str) -> None:
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute(statement)


def of_energy(home: Home) -> Selection:
    return Selection(stream=home.energy.name)


def plan(home: Home, selection: Selection = OPEN) -> list[tuple[str, str]]:
    with reprocessing(home.settings, {s.name: s for s in home.streams.values()}) as work:
        return [(verdict.kind, verdict.reason) for verdict in work.plan(selection)]


def apply(home: Home, selection: Selection = OPEN, limit: int | None = None) -> Outcome:
    with reprocessing(home.settings, {s.name: s for s in home.streams.values()}) as work:
        return work.apply(selection, "tester", limit)


def test_what_the_bridge_rejected_is_stored_as_if_it_had_been_accepted_then(home: Home):
    limit_voltage(home, 200)
    before = datetime.now(UTC)
    with home.running("bridge", "sink"):
        home.publish((home.topic("meter1"), reading(NOON, voltage=230)))
        indexed(home, 1)
    received_at = home.query(
        "select received_at from hl.dead_letters where stage = 'bridge' and preview <> ''"
    )
    limit_voltage(home, None)
    with home.running("sink"):
        assert plan(home, of_energy(home)) == [("accepted", "")]
        outcome = apply(home, of_energy(home))
    assert (outcome.n_stored, outcome.n_failed_again, outcome.complete) == (1, 0, True)
    assert home.query("select device_id, timestamp, voltage from {energy}") == [("meter1", NOON, 230)]
    assert home.query("select received_at from {energy}") == received_at
    assert received_at[0][0] >= before
    assert home.query("select state, state_by from hl.dead_letters where preview <> ''") == [
        ("replayed", "tester")
    ]


def test_what_the_database_rejected_is_stored_with_its_bytes_and_key(home: Home):
    forbid(home, power_kw=66)
    sent = record("meter1", NOON, power_kw=66)
    with home.running("sink"):
        home.produce(sent)
        indexed(home, 1)
        allow(home)
        outcome = apply(home)
    replayed = home.records(home.energy.kafka_topic)[-1]
    assert (replayed.key(), replayed.value()) == (sent[0].encode(), sent[1])
    assert dict(replayed.headers())["hl.replay_of"] == f"{home.energy.dead_letter_topic}/0/0".encode()
    assert (outcome.n_stored, home.query("select power_kw from {energy}")) == (1, [(66.0,)])


def test_a_dry_run_changes_nothing(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"))
        indexed(home, 1)
        n_records = len(home.records(home.energy.kafka_topic))
        assert plan(home) == [("rejected", "not_json")]
    assert states(home) == ["new"]
    assert len(home.records(home.energy.kafka_topic)) == n_records


def test_what_is_rejected_again_stays_open_with_one_more_attempt(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"))
        indexed(home, 1)
        outcome = apply(home)
    assert (outcome.n_stored, outcome.n_failed_again) == (0, 1)
    assert home.query("select state, attempts, reason from hl.dead_letters") == [
        ("failed_again", 2, "not_json")
    ]
    # Found before it went to Kafka: nothing is rejected a second time there.
    assert len(home.records(home.energy.dead_letter_topic)) == 1


def test_a_dry_run_knows_what_the_database_would_reject(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        assert plan(home) == [("rejected", "sqlstate_23514")]
        allow(home)
        assert plan(home) == [("accepted", "")]
    assert home.n_rows() == 0


def test_what_the_database_rejects_again_is_counted_as_such(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        outcome = apply(home)
    assert (outcome.n_stored, outcome.n_failed_again, outcome.complete) == (0, 1, True)
    [(state, sqlstate, attempts)] = home.query("select state, sqlstate, attempts from hl.dead_letters")
    assert (state, sqlstate) == ("failed_again", "23514")
    assert attempts > 1


def test_replaying_twice_changes_nothing(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        allow(home)
        apply(home)
        before = home.query("select *, xmin::text from {energy}")
        assert apply(home).n_selected == 0
        assert apply(home, ANY).n_stored == 1
    assert home.query("select *, xmin::text from {energy}") == before


def test_a_replay_tells_what_became_of_its_entries_also_where_another_took_them_after_it(home: Home):
    others: list[Outcome] = []

    def replay_as_well(step: str, _done: int, _total: int) -> None:
        if step == "replayed":
            others.append(apply(home, ANY))

    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        allow(home)
        streams = {stream.name: stream for stream in home.streams.values()}
        with reprocessing(home.settings, streams, replay_as_well) as work:
            outcome = work.apply(OPEN, "tester")
    assert [one.n_stored for one in (outcome, *others)] == [1, 1]


def test_a_replay_of_an_old_reading_does_not_undo_a_newer_correction(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        home.produce(record("meter1", NOON, power_kw=2))
        eventually(home.n_rows)
        allow(home)
        apply(home)
    assert home.query("select power_kw from {energy}") == [(2.0,)]


def test_a_replay_of_a_record_that_says_not_when_it_was_received_is_as_old_as_it_was(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(("meter1", reading(NOON, power_kw=66)))
        indexed(home, 1)
        allow(home)
        apply(home)
    assert home.query("select received_at from {energy}") == home.query(
        "select kafka_time from hl.dead_letters"
    )


def test_a_truncated_entry_is_never_replayed(home: Home):
    with home.running("bridge", "sink"):
        home.publish((home.topic("meter1"), b'"' + b"x" * 950_000 + b'"'))
        indexed(home, 1)
        assert plan(home, of_energy(home)) == [("impossible", "truncated")]
        outcome = apply(home, of_energy(home))
    assert outcome.impossible == {"truncated": 1}
    assert states(home) == ["new"]


def test_an_entry_whose_bytes_kafka_has_no_longer_says_so(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"), ("meter1", b"[nonsense"))
        indexed(home, 2)
    execute(home, "update hl.dead_letters set dead_letter_offset = 500 where dead_letter_offset = 0")
    # The same place, another record: of a topic that was made anew.
    execute(home, "update hl.dead_letters set dead_lettered_at = now() where dead_letter_offset = 1")
    assert plan(home) == [("impossible", "expired"), ("impossible", "expired")]
    assert judge.IMPOSSIBLE["expired"]


def test_entries_of_a_stream_that_is_declared_no_longer_stay(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"))
        indexed(home, 1)
    execute(home, "update hl.dead_letters set stream = 'gas'")
    assert plan(home) == [("impossible", "unknown_stream")]


def test_order_per_device_is_that_of_the_first_time(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reprocess, "MAX_BATCH_ENTRIES", 7)
    limit_voltage(home, 200)
    moments = [NOON + timedelta(seconds=n) for n in range(50)]
    with home.running("sink"):
        home.produce(*(record(f"meter{n % 3}", at, voltage=230) for n, at in enumerate(moments)))
        indexed(home, 50)
    limit_voltage(home, None)
    n_before = Counter(message.partition() for message in home.records(home.energy.kafka_topic))
    with home.running("sink"):
        assert apply(home).n_stored == 50
    by_device: dict[bytes, list[str]] = {}
    for message in home.records(home.energy.kafka_topic):
        if message.offset() >= n_before[message.partition()]:
            body = msgspec.json.decode(message.value())
            by_device.setdefault(message.key(), []).append(body["timestamp"])
    assert sorted(len(found) for found in by_device.values()) == [16, 17, 17]
    assert all(found == sorted(found) for found in by_device.values())


def test_a_limit_takes_the_oldest(home: Home):
    with home.running("sink"):
        home.produce(*(("meter1", b"{") for _ in range(5)))
        indexed(home, 5)
        assert apply(home, limit=2).n_selected == 2
    assert states(home) == ["failed_again", "failed_again", "new", "new", "new"]


def test_an_entry_is_taken_by_one_at_a_time(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{"), ("meter1", b"["))
        indexed(home, 2)
    url = home.env["HL_DATABASE__URL"]
    first, second = DeadLetterIndex(url, "first"), DeadLetterIndex(url, "second")
    with first.taking(OPEN, 1, 0) as mine, second.taking(OPEN, 10, 0) as others:
        assert [len(mine), len(others)] == [1, 1]
        assert mine[0].id != others[0].id
    first.close()
    second.close()


def test_selections_narrow(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{"), ("meter2", b"{"), ("meter2", b"[]"))
        home.produce(("room1", b"{"), stream="temperature")
        eventually(lambda: home.query("select 1 from hl.dead_letters"), lambda rows: len(rows) == 4)
    index = DeadLetterIndex(home.env["HL_DATABASE__URL"], "test")
    [entry] = index.entries(Selection(device_id="meter2"), 10, None)[:1]
    now = datetime.now(UTC)

    def n(**about: object) -> int:
        return index.count(Selection(**about))[0]  # type: ignore[arg-type]

    assert n(stream=home.energy.name) == 3
    assert n(device_id="meter2") == 2
    assert n(fingerprint=entry.fingerprint) == 1
    assert n(ids=(entry.id,)) == 1
    assert n(since=now) == 0
    assert n(until=now) == 4
    assert n(states=("discarded",)) == 0
    assert n(since=entry.last_failed_at, until=entry.last_failed_at) == 0
    index.close()


def test_only_what_another_version_or_declaration_rejected_is_tried_again(home: Home):
    with home.running("sink"):
        home.produce(*((f"meter{n}", b"{") for n in range(4)))
        indexed(home, 4)
    execute(home, "update hl.dead_letters set version = '0.0.1' where device_id = 'meter1'")
    execute(home, "update hl.dead_letters set declaration = 'other' where device_id = 'meter2'")
    execute(
        home,
        "update hl.dead_letters set version = '0.0.1', truncated_from_bytes = 9 where device_id = 'meter3'",
    )
    unlike = reprocess.rejected_unlike_now(home.streams.values())
    assert len(plan(home, unlike)) == 2
    apply(home, unlike)
    assert plan(home, unlike) == []


def test_discarded_entries_are_left_alone_until_asked_for_by_id(home: Home):
    forbid(home, power_kw=66)
    with home.running("sink"):
        home.produce(record("meter1", NOON, power_kw=66))
        indexed(home, 1)
        index = DeadLetterIndex(home.env["HL_DATABASE__URL"], "test")
        assert index.discard(OPEN, "tester", "a test") == 1
        [entry] = index.entries(ANY, 10)
        assert (entry.state, entry.state_by, entry.state_reason) == ("discarded", "tester", "a test")
        assert index.discard(OPEN, "tester", "again") == 0
        index.close()
        allow(home)
        assert apply(home).n_selected == 0
        assert apply(home, Selection(ids=(entry.id,), states=None)).n_stored == 1
    assert states(home) == ["replayed"]
