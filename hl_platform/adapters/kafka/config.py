"""librdkafka settings that every client of ours shares."""

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import KafkaSettings


def client_config(kafka: KafkaSettings, client_id: str) -> dict[str, str | int | float | bool]:
    """Where the cluster is and how to talk to it.

    Args:
        kafka: the settings.
        client_id: shown in the cluster's logs and metrics.

    Raises:
        ConfigError: no cluster is set.
    """
    if kafka.bootstrap_servers is None:
        raise ConfigError("HL_KAFKA__BOOTSTRAP_SERVERS is not set, and no running hl was found. Run `hl up`.")
    given = {
        "bootstrap.servers": kafka.bootstrap_servers,
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
        # 127.0.0.1 and [::1] may differ in who listens; the embedded broker is on IPv4.
        "broker.address.family": "v4" if kafka.bootstrap_servers.startswith("127.") else "any",
        "log.connection.close": False,
    }
    return {key: value for key, value in given.items() if value is not None}
