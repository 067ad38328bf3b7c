"""The sink's place in its consumer group, taken from it: it goes on, and every record is one row."""

from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer

from tests.home import Home, eventually, record

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def shut_out(home: Home, member: str) -> None:
    """Joins the group under the name of a member, which shuts that one out, and leaves."""
    assigned: list[int] = []
    rival = Consumer(
        {
            "bootstrap.servers": home.env["HL_KAFKA__BOOTSTRAP_SERVERS"],
            "group.id": home.energy.consumer_group,
            "group.instance.id": member,
            "enable.auto.commit": False,
        }
    )
    rival.subscribe([home.energy.kafka_topic], on_assign=lambda _c, partitions: assigned.extend(partitions))
    eventually(lambda: rival.poll(0.1) or assigned)
    rival.close()


def test_sink_that_was_shut_out_of_its_group_joins_again_and_stores_each_record_once(home: Home):
    def readings(part: int) -> list[tuple[str, bytes]]:
        at = NOON + timedelta(hours=part)
        return [record(f"meter{n % 7}", at + timedelta(seconds=n)) for n in range(500)]

    with home.running("sink"):
        home.produce(*readings(0))
        eventually(home.n_rows, lambda n: n == 500)
        for part in (1, 2):
            shut_out(home, "hl-sink")
            home.produce(*readings(part))
            eventually(home.n_rows, lambda n, part=part: n == 500 * (part + 1))
    account = home.account("sink")
    assert (account["received"], account["forwarded"]) == (1500, 1500)


def shares(home: Home) -> dict[str, int]:
    """How many Kafka partitions of energy each sink holds."""
    return dict(
        home.query(
            "select service, count(*)::int from hl.offsets where consumer_group = %s group by service",
            home.energy.consumer_group,
        )
    )


def test_two_sinks_share_the_partitions_and_when_one_dies_the_other_has_them_all(home: Home):
    n_partitions = home.energy.kafka_partitions

    def send(part: int) -> None:
        at = NOON + timedelta(hours=part)
        home.produce(*(record(f"meter{n}", at) for n in range(200)), ("meter0", b"no reading"))

    first, second = home.start_process("sink-1"), home.start_process("sink-2")
    try:
        eventually(lambda: shares(home), lambda held: len(held) == 2 and sum(held.values()) == n_partitions)
        send(0)
        eventually(home.n_rows, lambda n: n == 200)
        first.kill()
        first.wait()
        send(1)
        eventually(home.n_rows, lambda n: n == 400)
        assert shares(home) == {"sink-2": n_partitions}
        # It kept the index, and its successor reads on.
        first = home.start_process("sink-1")
        eventually(lambda: home.query("select count(*) from hl.dead_letters"), lambda found: found == [(2,)])
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    counts = "sum(received)::int, sum(forwarded)::int, sum(dead_lettered)::int"
    assert home.query(f"select {counts} from hl.accounts where stage = 'sink'") == [(402, 400, 2)]  # noqa: S608
