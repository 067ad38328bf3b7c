"""A client of Kafka that is closed ends at once, whoever still holds it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hl_platform.adapters.kafka.consumer import GroupConsumer
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.core.sections import KafkaSettings
from tests.home import eventually

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


def held() -> tuple[int, int]:
    """Open files of this process, and threads of librdkafka, which names them; those of other tests come and go."""
    n_threads = 0
    for name in Path("/proc/self/task").glob("*/comm"):
        # It ended since it was listed.
        with suppress(FileNotFoundError, ProcessLookupError):
            n_threads += name.read_text().startswith("rdk:")
    return psutil.Process().num_fds(), n_threads


@pytest.mark.parametrize("begin", [idle_producer, producer_with_a_record, group_consumer])
def test_closed_client_holds_no_connection_and_no_thread(begin: Callable[[], Callable[[], object]]) -> None:
    before = held()
    close = begin()
    during = held()
    assert during[0] > before[0]
    assert during[1] > before[1]
    close()
    # Linux lists a thread for some moments after whoever waited for its end was told.
    eventually(held, lambda now: now == before)
