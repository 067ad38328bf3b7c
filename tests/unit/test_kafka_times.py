"""Any program may give a record any Kafka timestamp where Kafka does not note the time itself."""

from datetime import UTC, datetime, timedelta

import pytest

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.adapters.kafka.times import LAST_MS, kafka_time_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "ms", [-1, -(2**63), 0, 1, 1_767_456_000_123, LAST_MS, LAST_MS + 1, 10**15, 2**63 - 1]
)
def test_every_number_is_the_time_nearest_to_it(ms: int) -> None:
    time = kafka_time_of(ms)
    assert EPOCH <= time <= LAST
    if 0 <= ms <= LAST_MS:
        assert abs(time - EPOCH - timedelta(milliseconds=ms)) < timedelta(milliseconds=1)
    assert Record(0, 0, None, b"", ms).kafka_time == time
