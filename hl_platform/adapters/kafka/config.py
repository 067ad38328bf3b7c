"""librdkafka settings that every client of ours shares."""

import time
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from hl_platform.core.sections import KafkaSettings
from hl_platform.core.settings import require_address

log = structlog.get_logger()

SAY_AGAIN_AFTER_S = 10.0
Setting = str | int | float | bool | Callable[[KafkaError], None]


def client_config(kafka: KafkaSettings, client_id: str) -> dict[str, Setting]:
    """Where the cluster is and how to talk to it.

    Args:
        kafka: the settings.
        client_id: shown in the cluster's logs and metrics.

    Raises:
        ConfigError: no cluster is set.
    """
    bootstrap_servers = require_address(kafka.bootstrap_servers, "kafka", "bootstrap_servers")
    given: dict[str, Setting | None] = {
        "bootstrap.servers": bootstrap_servers,
        "client.id": client_id,
        "security.protocol": kafka.security_protocol.lower(),
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": kafka.sasl_password,
        "ssl.ca.location": kafka.ssl_ca_location,
        "ssl.certificate.location": kafka.ssl_certificate_location,
        "ssl.key.location": kafka.ssl_key_location,
        # A broker that comes back is noticed within a second instead of ten.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
        # What a broker never answers is asked again after 15 s instead of a minute.
        "socket.timeout.ms": 15_000,
        # 127.0.0.1 and [::1] may differ in who listens; the embedded broker is on IPv4.
        "broker.address.family": "v4" if bootstrap_servers.startswith("127.") else "any",
        # librdkafka would write a line to stderr at every try to reconnect; we say it now and then instead.
        "log_level": 0,
        "error_cb": _quiet_reporter(client_id),
    }
    return {key: value for key, value in given.items() if value is not None}


def reader_config(kafka: KafkaSettings, client_id: str) -> dict[str, Setting]:
    """Of a consumer that is assigned its partitions, keeps its own position and reads to the end.

    Args:
        kafka: the settings.
        client_id: shown in the cluster's logs and metrics.

    Raises:
        ConfigError: no cluster is set.
    """
    return {
        **client_config(kafka, client_id),
        # Required by the library; nothing is subscribed or committed under it.
        "group.id": client_id,
        "enable.auto.commit": False,
        # How the end of what there is shows, also where the last offset holds no record.
        "enable.partition.eof": True,
    }


def admin_client(kafka: KafkaSettings, client_id: str) -> AdminClient:
    """A client for topics, offsets and groups."""
    # The stubs forget that callbacks are settings, too.
    return AdminClient(client_config(kafka, client_id))  # type: ignore[arg-type]


def _quiet_reporter(client_id: str) -> Callable[[KafkaError], None]:
    last_said: dict[int, float] = {}

    def report(error: KafkaError) -> None:
        now = time.monotonic()
        if now - last_said.get(error.code(), -SAY_AGAIN_AFTER_S) >= SAY_AGAIN_AFTER_S:
            last_said[error.code()] = now
            log.warning("kafka_error", client_id=client_id, error=error.str(), code=error.name())

    return report
