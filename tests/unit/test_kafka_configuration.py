"""What a Kafka broker is told: alone, in a cluster, and behind a forwarded port."""

from pathlib import Path

from hl_platform.stack.kafka import ClusterNode, plan_configuration

DIRECTORY = Path("/data/kafka")


def properties(node: ClusterNode, forwarded: dict[int, int]) -> dict[str, str]:
    text = plan_configuration(node, 9092, forwarded, DIRECTORY)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_broker_alone_has_one_copy_of_everything() -> None:
    told = properties(ClusterNode(1, (19092,), "id"), {})
    assert {
        told[name] for name in told if "replication.factor" in name or name.endswith(("isr", "replicas"))
    } == {"1"}


def test_three_brokers_keep_three_copies_of_which_two_must_be_in_sync() -> None:
    told = properties(ClusterNode(2, (19091, 19092, 19093), "id"), {})
    assert told["node.id"] == "2"
    assert told["controller.quorum.voters"] == "1@127.0.0.1:19091,2@127.0.0.1:19092,3@127.0.0.1:19093"
    assert "CONTROLLER://127.0.0.1:19092" in told["listeners"]
    assert (told["offsets.topic.replication.factor"], told["min.insync.replicas"]) == ("3", "2")


def test_clients_of_a_forwarded_port_are_sent_back_to_where_they_came_from() -> None:
    told = properties(ClusterNode(1, (19092,), "id"), {9094: 9999})
    assert told["listeners"] == (
        "BROKER://127.0.0.1:9092,PORT9094://127.0.0.1:9094,CONTROLLER://127.0.0.1:19092"
    )
    assert told["advertised.listeners"] == "BROKER://127.0.0.1:9092,PORT9094://127.0.0.1:9999"
