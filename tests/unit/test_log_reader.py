"""What the driver raises leaves the reader of Kafka's log as an error of ours."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from hl_platform.adapters.kafka.log_reader import Extent, LogReader
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import KafkaSettings

NOWHERE = "127.0.0.1:1"


class FailingConsumer:
    """A driver's consumer, of which one method fails: librdkafka fails there only when its own threads are gone."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        def call(*_arguments: object, **_named: object) -> list[Any]:
            if name == self.failing:
                raise KafkaException(KafkaError(KafkaError._STATE))
            return []

        return call


def test_reader_that_cannot_be_made_says_so_with_an_error_of_ours() -> None:
    unreadable = KafkaSettings(
        bootstrap_servers=NOWHERE, security_protocol="SSL", ssl_ca_location="/nowhere/ca.pem"
    )
    with pytest.raises(TransientError, match=r"ssl\.ca\.location"):
        LogReader(unreadable, "test")


@pytest.mark.parametrize("failing", ["assign", "consume", "unassign", "close"])
def test_driver_that_fails_at_any_step_of_reading_raises_an_error_of_ours(failing: str) -> None:
    reader = LogReader(KafkaSettings(bootstrap_servers=NOWHERE), "test")
    turns = iter([False, True])
    with closing(reader._consumer):
        reader._consumer = FailingConsumer(failing)
        with pytest.raises(TransientError):
            read_and_close(reader, lambda: next(turns))


def read_and_close(reader: LogReader, finished: Callable[[], bool]) -> None:
    list(reader.read({("topic", 0): Extent(0, 1)}, finished))
    reader.close()
