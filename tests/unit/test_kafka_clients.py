"""A client of Kafka that is closed ends at once, whoever still holds it."""

from collections.abc import Callable

import psutil
import pytest

from hl_platform.adapters.kafka.consumer import GroupConsumer
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.core.sections import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")


pytestmark = pytest.mark.usefixtures("no_garbage_is_collected")


def idle_producer() -> Callable[[], object]:
    producer = KafkaProducer(NOWHERE, "test")
    return lambda: producer.close(0)


def producer_with_a_record() -> Callable[[], object]:
    producer = KafkaProducer(NOWHERE, "test")
    producer.send("topic", "key", b"value", lambda _: None)
    return lambda: producer.close(0)


def group_consumer() -> Callable[[], object]:
    return GroupConsumer(NOWHERE, "group", "topic", "member").close


@pytest.mark.parametrize("begin", [idle_producer, producer_with_a_record, group_consumer])
def test_closed_client_holds_no_connection_and_no_thread(begin: Callable[[], Callable[[], object]]) -> None:
    process = psutil.Process()
    before = process.num_fds(), process.num_threads()
    close = begin()
    assert process.num_fds() > before[0]
    close()
    assert (process.num_fds(), process.num_threads()) == before
