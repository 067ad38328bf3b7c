"""Accounts of real services on real servers, compared; what differs is named, what is foreign does not disturb."""

import threading

import pytest
from confluent_kafka import Producer

from hl_platform.adapters.postgres.balance_store import Balance, read_balances
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.lease_keeper import LeaseKeeper
from hl_platform.adapters.postgres.leases import Holder
from hl_platform.adapters.postgres.status import read_status
from hl_platform.core.accounts import StageStats
from hl_platform.core.balance import STAGES
from hl_platform.core.coverage import DEAD_LETTERED, FORWARDED
from hl_platform.core.dead_letters import REPLAY_OF
from hl_platform.pipeline import comparison
from hl_platform.pipeline.comparison import compare_accounts
from tests.accounts import n_on_kafka, n_read_from_bridges
from tests.home import Home, eventually, reading, record


def counts(home: Home) -> tuple[int, int, int, int]:
    """Forwarded and on Kafka, dead-lettered and on Kafka; then what the sink read from bridges."""
    bridge = home.account("bridge")
    return bridge["forwarded"], n_read_from_bridges(home), bridge["dead_lettered"], bridge["in_flight"]


def differing(home: Home) -> dict[tuple[str, str], int]:
    found = compare_accounts(home.settings, home.streams.values())
    return {
        (difference.stream, difference.stage): difference.n_records
        for difference in found
        if difference.n_records
    }


def balances(home: Home) -> dict[str, Balance]:
    with connect(home.env["HL_DATABASE__URL"], application_name="test") as conn:
        return {row.stage: row for row in read_balances(conn) if row.stream == home.energy.name}


def tamper(home: Home, statement: str) -> None:
    with connect(home.env["HL_DATABASE__URL"], application_name="test") as conn:
        conn.execute(statement.encode(), {"stream": home.energy.name})


def settle(home: Home, n_rows: int) -> None:
    eventually(home.n_rows, lambda n: n >= n_rows)
    eventually(lambda: counts(home), lambda found: found[0] == found[1] and found[3] == 0)


def test_accounts_of_two_bridges_and_a_sink_balance_with_what_is_on_kafka(home: Home):
    home.env["HL_BRIDGE__INSTANCES"] = "2"

    def both_have_counted() -> bool:
        home.has_bridge()
        return home.query("select count(distinct service) from hl.accounts where received > 0") == [(2,)]

    with home.running("bridge-1", "bridge-2", "sink"):
        # Else one of them might carry all that follows.
        eventually(both_have_counted)
        home.publish(*((home.topic(f"meter{n % 7}"), reading(seq=n)) for n in range(300)))
        home.publish(*((home.topic("meter1"), b"not json") for _ in range(20)))
        settle(home, 300)
        assert differing(home) == {}
    bridge = home.account("bridge")
    assert (bridge["forwarded"], bridge["dead_lettered"]) == (300, 20)
    assert (n_on_kafka(home, FORWARDED), n_on_kafka(home, DEAD_LETTERED)) == (300, 20)
    assert {row[0] for row in home.query("select bridge from hl.coverage where stage = 'sink'")} == {
        "bridge-1",
        "bridge-2",
    }


def test_foreign_records_and_replays_on_the_topic_disturb_no_balance(home: Home):
    with home.running("bridge", "sink"):
        home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(10)))
        settle(home, 10)
        [own, *_] = home.records(home.energy.kafka_topic)
        producer = Producer({"bootstrap.servers": home.env["HL_KAFKA__BOOTSTRAP_SERVERS"]})
        for n in range(5):
            # The bytes of a replay may name the bridge that carried them first.
            producer.produce(
                home.energy.kafka_topic,
                own.value(),
                own.key(),
                headers={REPLAY_OF: f"{home.energy.dead_letter_topic}/0/{n}"},
            )
        producer.flush(10)
        home.produce(*(record("meter9") for _ in range(7)), (None, b"not even json"))
        eventually(lambda: home.account("sink")["received"], lambda n: n == 23)
        assert differing(home) == {}
        assert home.account("bridge")["forwarded"] == 10
        assert n_read_from_bridges(home) == 10


def test_bridge_counts_what_its_predecessor_delivered_and_did_not_write_down(home: Home):
    with home.running("bridge"):
        home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(50)), (home.topic("x"), b"?"))
        eventually(lambda: home.account("bridge"), lambda found: found["forwarded"] == 50)
    # As if killed before its last heartbeats: 30 readings and the dead letter are on Kafka and not counted.
    tamper(
        home,
        "update hl.accounts set received = received - 31, forwarded = forwarded - 30, dead_lettered = 0 "
        "where stage = 'bridge' and stream = %(stream)s",
    )
    tamper(home, "delete from hl.coverage where stream = %(stream)s and kind = 'dead_lettered'")
    tamper(
        home,
        "update hl.coverage set n_records = n_records - 30, next_offset = next_offset - 30 "
        "where stream = %(stream)s and kind = 'forwarded' and n_records > 0",
    )
    with home.running("bridge"):
        found = eventually(lambda: home.account("bridge"), lambda found: found["forwarded"] >= 50)
    assert (found["received"], found["forwarded"], found["dead_lettered"]) == (51, 50, 1)


def test_records_that_a_replaced_process_delivers_late_are_counted_by_its_successor(home: Home):
    with home.running("bridge", "sink"):
        home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(10)))
        settle(home, 10)
        # A paused predecessor that wakes writes what it had queued, under the same name.
        [own, *_] = home.records(home.energy.kafka_topic)
        home.produce(*((own.key().decode(), own.value()) for _ in range(3)))  # type: ignore[union-attr]
        found = eventually(lambda: home.account("bridge"), lambda found: found["forwarded"] == 13)
        assert found["received"] == 13
        assert differing(home) == {}


def test_account_that_was_tampered_with_is_found_with_stage_and_interval(home: Home):
    with home.running("bridge", "sink"):
        home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(10)))
        settle(home, 10)
    assert differing(home) == {}
    before = balances(home)["sink"].compared_at
    tamper(
        home, "update hl.accounts set received = received + 4 where stage = 'sink' and stream = %(stream)s"
    )
    assert differing(home) == {(home.energy.name, "sink"): 4, (home.energy.name, "kafka_to_sink"): 4}
    found = balances(home)["sink"]
    assert found.n_records == 4
    assert found.balanced_at == before
    assert found.found_at is not None
    assert found.found_at > before
    again = balances(home)["sink"]
    assert differing(home) != {}
    assert balances(home)["sink"].found_at == again.found_at
    assert balances(home)["bridge"].interval == ""
    tamper(
        home, "update hl.accounts set received = received - 4 where stage = 'sink' and stream = %(stream)s"
    )
    assert differing(home) == {}
    history = home.query(
        "select n_records from hl.balances where stage = 'sink' and stream = %s order by from_at",
        home.energy.name,
    )
    assert history == [(0,), (4,), (0,)]


def test_old_findings_are_forgotten_but_not_the_newest(home: Home):
    for n_records, age in ((0, 60), (3, 50), (0, 40), (5, 35)):
        tamper(
            home,
            "insert into hl.balances (stream, stage, from_at, to_at, n_records, explanation) "  # noqa: S608
            f"values (%(stream)s, 'sink', now() - interval '{age} days', now() - interval '{age - 1} days', "
            f"{n_records}, 'x')",
        )
    tamper(
        home, "insert into hl.accounts (service, stage, stream, received) values ('s', 'sink', %(stream)s, 5)"
    )
    assert differing(home)[home.energy.name, "sink"] == 5
    found = balances(home)["sink"]
    assert found.balanced_at is not None
    history = home.query(
        "select n_records from hl.balances where stage = 'sink' and stream = %s", home.energy.name
    )
    assert sorted(history) == [(0,), (5,)]


def test_difference_that_settles_at_once_is_none(home: Home, monkeypatch: pytest.MonkeyPatch):
    tamper(
        home, "insert into hl.accounts (service, stage, stream, received) values ('s', 'sink', %(stream)s, 5)"
    )

    def heal(_seconds: float) -> None:
        tamper(home, "update hl.accounts set received = 0 where service = 's' and stream = %(stream)s")

    monkeypatch.setattr(comparison.time, "sleep", heal)
    assert differing(home) == {}
    assert set(balances(home)) == set(STAGES)


def test_alert_of_a_stage_is_in_the_status_until_it_is_cleared(home: Home):
    url, stats = home.env["HL_DATABASE__URL"], StageStats()
    keeper = LeaseKeeper(
        url,
        Holder("sink", "sink"),
        home.settings.service,
        stats,
        on_end=lambda: None,
        with_accounts=False,
    )
    keeper.acquire(threading.Event())

    def alerts() -> list[tuple[str, str, bool]]:
        with connect(url, application_name="test") as conn:
            return [(each.code, each.message, each.is_of_the_dead) for each in read_status(conn).alerts]

    stats.alert("energy", "breaker_open", "Paused.")
    eventually(alerts, lambda found: found == [("breaker_open", "Paused.", False)])
    stats.alert("energy", "breaker_open", "Paused for long.")
    eventually(alerts, lambda found: found == [("breaker_open", "Paused for long.", False)])
    stats.clear_alert("energy", "breaker_open")
    eventually(alerts, lambda found: not found)
    stats.alert("energy", "breaker_open", "Paused.")
    keeper.release()
    assert alerts() == [("breaker_open", "Paused.", True)]
    with home.running("sink"):
        eventually(alerts, lambda found: not found)
