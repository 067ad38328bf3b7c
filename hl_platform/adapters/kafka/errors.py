"""From librdkafka's errors to ours, by code."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from hl_platform.core.errors import ConfigError, FencedError, HlError, InvariantError, TransientError

REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the library's public names begin with an underscore
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
    }
)
PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
# Of what is sent at once, in bytes; Kafka's own default.
MAX_MESSAGE_BYTES = 1_048_588
SUPERSEDED = frozenset({KafkaError.FENCED_INSTANCE_ID, KafkaError.INVALID_PRODUCER_EPOCH})


def translate(error: KafkaException | KafkaError) -> HlError:
    """Our error for a driver's. What is not known to be for good is an outage."""
    kafka_error = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(kafka_error, KafkaError):
        return InvariantError(str(error))
    text = f"Kafka: {kafka_error.str()} ({kafka_error.name()})"
    if kafka_error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        # The broker's word, about all that was sent at once; a single record that is too large is not even sent.
        return ConfigError(
            f"{text}: raise the topic's max.message.bytes to {MAX_MESSAGE_BYTES}, Kafka's default"
        )
    if kafka_error.code() in REFUSED:
        return ConfigError(text)
    if kafka_error.code() in SUPERSEDED:
        return FencedError(text)
    return InvariantError(text) if kafka_error.fatal() else TransientError(text)


@contextmanager
def translated() -> Iterator[None]:
    """Lets no driver's error out of the block."""
    try:
        yield
    except KafkaException as exc:
        raise translate(exc) from exc


def passes(error: KafkaError) -> bool:
    """Whether librdkafka goes on by itself after an error, when the broker is back."""
    return bool(error.retriable()) or error.code() in PASSING
