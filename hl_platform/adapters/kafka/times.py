"""A Kafka timestamp as a time."""

from datetime import UTC, datetime

# The last one that a datetime can hold. Where Kafka does not note the time itself, any producer may say any number.
LAST_MS = 253_402_300_799_999


def kafka_time_of(ms: int) -> datetime:
    """The time of a Kafka timestamp, aware; of one that is none, the nearest that is.

    Args:
        ms: since 1970; negative where Kafka has none.
    """
    return datetime.fromtimestamp(min(max(ms, 0), LAST_MS) / 1000, UTC)
