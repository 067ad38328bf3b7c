"""A thousand clients of the feed that are dropped at once: real service, real Kafka, tokens asked for."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hl_live.client import FeedClient
from hl_live.feed.messages import DataMessage, GapMessage, SubscribedMessage
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.access import make_token
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.integration.live_service import LiveProcess
from tests.proxy import Proxy, proxied

N_CLIENTS = 1_000
BEFORE, MEANWHILE = range(20), range(20, 100)
PATIENCE_S = 100.0
STATEMENT = re.compile(r"hl@\S+/(\S+) LOG:  (?:statement|execute [^:]*):")


@pytest.fixture
def live(tmp_path: Path, own_postgres: EmbeddedPostgres, kafka: EmbeddedKafka) -> Iterator[LiveProcess]:
    made = LiveProcess(
        tmp_path,
        own_postgres.url,
        kafka.bootstrap_servers,
        HL_AUTH__REQUIRED="true",
        HL_LIVE__MAX_CLIENTS_PER_ADDRESS=str(N_CLIENTS),
        HL_LIVE__MAX_REQUESTS_PER_MINUTE=str(100 * N_CLIENTS),
        # So that a part of what is asked for again lies behind it.
        HL_LIVE__RING_MESSAGES="50",
    )
    made.make_tables()
    made.make_topics()
    made.token = make_token()
    with closing(TokenStore(own_postgres.url, "hl-test")) as store:
        store.add(made.token, "crowd", ["read:*"], None, None)
    with connect(own_postgres.admin_url, application_name="hl-test", autocommit=True) as conn:
        conn.execute("alter system set log_statement = 'all'")
        conn.execute("select pg_reload_conf()")
    yield made.start_reading()
    made.close()


class Crowd:
    """Clients of one process, and what each was handed.

    Args:
        port: of the service, or of the line to it.
        token: of all of them.
    """

    def __init__(self, port: int, token: str | None) -> None:
        url = f"http://127.0.0.1:{port}"
        self.clients = [FeedClient(url, ["energy"], token=token) for _ in range(N_CLIENTS)]
        self.values: list[list[object]] = [[] for _ in self.clients]
        self.gaps: list[GapMessage] = []
        self.all_subscribed = asyncio.Event()
        self._n_subscribed = 0

    async def listen(self, until: int) -> None:
        """Returns when every client has this counter."""
        await asyncio.gather(*(self._listen(number, until) for number in range(N_CLIENTS)))

    async def leave(self) -> None:
        """Closes all connections."""
        await asyncio.gather(*(client.__aexit__(None, None, None) for client in self.clients))

    async def _listen(self, number: int, until: int) -> None:
        async for message in self.clients[number]:
            match message:
                case SubscribedMessage():
                    self._n_subscribed += 1
                    if self._n_subscribed == N_CLIENTS:
                        self.all_subscribed.set()
                case GapMessage():
                    self.gaps.append(message)
                case DataMessage():
                    self.values[number].append(message.data["total_energy_kwh"])
                    if self.values[number][-1] == until:
                        return


def statements(server: EmbeddedPostgres) -> Counter[str]:
    """How many statements the database has been sent, by who sent them."""
    return Counter(STATEMENT.findall(server.log_path.read_text(errors="replace")))


async def gather(live: LiveProcess, crowd: Crowd) -> None:
    """Returns when every client has read what there was before."""
    listening = asyncio.ensure_future(crowd.listen(BEFORE[-1]))
    await crowd.all_subscribed.wait()
    await asyncio.to_thread(live.produce, "m1", BEFORE)
    await listening


async def cut_all(live: LiveProcess, line: Proxy, server: EmbeddedPostgres) -> tuple[Crowd, Counter[str]]:
    """What the clients got, and the statements that were sent from the cut until all were back."""
    crowd = Crowd(line.port, live.token)
    async with asyncio.timeout(PATIENCE_S):
        await gather(live, crowd)
        before = statements(server)
        assert await asyncio.to_thread(line.cut) == N_CLIENTS
        await asyncio.to_thread(live.produce, "m1", MEANWHILE)
        await asyncio.to_thread(line.heal)
        await crowd.listen(MEANWHILE[-1])
        sent = statements(server) - before
        await crowd.leave()
    return crowd, sent


async def kill_service(live: LiveProcess) -> Crowd:
    """What the clients got of a service that was killed and started again."""
    crowd = Crowd(live.port, live.token)
    async with asyncio.timeout(PATIENCE_S):
        await gather(live, crowd)
        await asyncio.to_thread(live.kill)
        await asyncio.to_thread(live.produce, "m1", MEANWHILE)
        await asyncio.to_thread(live.restart)
        await crowd.listen(MEANWHILE[-1])
        await crowd.leave()
    return crowd


def test_a_thousand_clients_that_are_dropped_at_once_resume_without_a_query(
    live: LiveProcess, own_postgres: EmbeddedPostgres
) -> None:
    with proxied(live.port) as line:
        crowd, sent = asyncio.run(cut_all(live, line, own_postgres))
    assert [values for values in crowd.values if values != [*BEFORE, *MEANWHILE]] == []
    assert crowd.gaps == []
    # What it does with and without clients: its heartbeat, and a look at the tokens.
    assert sent.keys() <= {f"hl-{live.service}-lease", "hl-live-tokens"}
    assert sent["hl-live-tokens"] < N_CLIENTS / 10


@pytest.mark.slow
def test_a_thousand_clients_of_a_killed_service_get_everything_once(live: LiveProcess) -> None:
    crowd = asyncio.run(kill_service(live))
    assert [values for values in crowd.values if values != [*BEFORE, *MEANWHILE]] == []
    assert crowd.gaps == []
