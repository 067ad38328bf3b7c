"""One household for all tests of what a person and a monitoring system see: it is started once."""

from collections.abc import Iterator

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.servers import temporary_database
from tests.terminal.flow import Flow


@pytest.fixture(scope="package")
def flow(
    postgres: EmbeddedPostgres,
    kafka: EmbeddedKafka,
    mosquitto: EmbeddedMosquitto,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flow]:
    """A running household. Whoever stops one of its services starts it again."""
    with temporary_database(postgres, "terminal") as database:
        flow = Flow(
            tmp_path_factory.mktemp("flow"),
            database.url,
            kafka.bootstrap_servers,
            (mosquitto.host, mosquitto.port),
        )
        try:
            flow.start_all()
            yield flow
        finally:
            flow.close()
