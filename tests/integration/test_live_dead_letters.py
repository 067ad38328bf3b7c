"""`/api/v1/dead-letters` and replays that are asked for, on a real PostgreSQL, as the role that may only read."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import PATIENCE_S
from tests.integration.live_service import BOUND, FLOOD, LiveProcess
from tests.servers import temporary_database

FILL = """
insert into hl.dead_letters (dead_letter_topic, dead_letter_partition, dead_letter_offset, dead_lettered_at, stream,
    stage, reason, detail, fingerprint, attempts, first_failed_at, last_failed_at, version, declaration, device_id,
    kafka_topic, kafka_partition, kafka_offset, kafka_time, n_bytes, preview, state)
select 't.dlq', 0, n, now(), case when n % 2 = 0 then 'energy' else 'heatpump' end, 'sink', 'invalid', 'no number',
    'f' || n % 5, 1, t, t, '0', '0', 'meter' || n % 3, 't', 0, n, t, 7, '{"a":1}',
    case when n > 90 then 'discarded' else 'new' end
from (select n, timestamptz '2026-01-03 16:00:00Z' + n * interval '1 minute' as t from generate_series(1, 100) as n)
"""


@pytest.fixture(scope="module")
def live(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveProcess]:
    with temporary_database(postgres, "live_dead_letters") as database:
        folder = tmp_path_factory.mktemp("live")
        live = LiveProcess(
            folder, database.url, kafka.bootstrap_servers, HL_DATABASE__READ_URL=database.read_url
        )
        migrate(database.url, database.read_url, live.streams.values())
        with psycopg.connect(database.url) as conn:
            conn.execute(FILL)
        live.make_topics()
        live.start()
        yield live
        live.close()


def ids(live: LiveProcess, **params: object) -> list[int]:
    answer = live.get("/api/v1/dead-letters", **params).raise_for_status().json()
    return [one["id"] for one in answer["dead_letters"]]


def test_what_waits_is_listed_newest_first(live: LiveProcess) -> None:
    answer = live.get("/api/v1/dead-letters").raise_for_status().json()
    assert [one["id"] for one in answer["dead_letters"]] == list(range(90, 0, -1))
    first = answer["dead_letters"][0]
    assert (first["stream"], first["state"], first["offset"]) == ("energy", "new", 90)
    assert (first["reason"], first["preview"], answer["next"]) == ("invalid", '{"a":1}', None)


def test_filters_narrow(live: LiveProcess) -> None:
    assert ids(live, stream="energy", fingerprint="f0") == [90, 80, 70, 60, 50, 40, 30, 20, 10]
    assert len(ids(live, device_id="meter1")) == 30
    assert ids(live, state="discarded") == list(range(100, 90, -1))
    assert len(ids(live, state=["discarded", "new"])) == 100
    assert ids(live, since="2026-01-03T16:05:00Z", until="2026-01-03T16:08:00Z") == [7, 6, 5]


def test_pages_follow_each_other_without_gap_or_overlap(live: LiveProcess) -> None:
    seen: list[int] = []
    before: dict[str, int] = {}
    while True:
        answer = live.get("/api/v1/dead-letters", limit=40, **before).raise_for_status().json()
        seen += [one["id"] for one in answer["dead_letters"]]
        if answer["next"] is None:
            break
        before = {"before": answer["next"]}
    assert seen == list(range(90, 0, -1))


# replays that are asked for


def ask(live: LiveProcess, body: object, **headers: str) -> httpx.Response:
    url = f"http://127.0.0.1:{live.port}/api/v1/dead-letters/replay"
    return httpx.post(url, json=body, headers=headers, timeout=PATIENCE_S)


def n_asked(live: LiveProcess) -> int:
    answer = live.get("/api/v1/dead-letters/replays").raise_for_status().json()
    return len(answer["replays"])


def test_kinds_group_what_waits(live: LiveProcess) -> None:
    kinds = live.get("/api/v1/dead-letters/kinds").raise_for_status().json()["kinds"]
    assert sum(kind["n"] for kind in kinds) == 90
    assert [
        kind["n"] for kind in live.get("/api/v1/dead-letters/kinds", device_id="nobody").json()["kinds"]
    ] == []


def test_a_request_is_kept_with_who_asked_and_can_be_followed(live: LiveProcess) -> None:
    answer = ask(live, {"fingerprint": "f0", "stream": "energy"})
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["state"], asked["dry_run"], asked["n_selected"], asked["until_id"]) == (
        "asked",
        True,
        9,
        90,
    )
    assert asked["requested_by"] == "anyone at 127.0.0.1"
    followed = live.get(answer.headers["location"]).raise_for_status().json()
    assert followed == asked
    assert live.get("/api/v1/dead-letters/replays").json()["replays"][0] == asked


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"everything": True, "stream": "energy"},
        {"stream": "gas"},
        {"fingerprint": "'; drop table"},
        {"device_id": "a\x00b"},
        {"until_id": 0, "everything": True},
        {"everything": True, "by": "me"},
        [],
        "all",
    ],
)
def test_a_request_that_says_nothing_or_nonsense_is_refused(live: LiveProcess, body: object) -> None:
    before = n_asked(live)
    answer = ask(live, body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert n_asked(live) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        # Another program's page on this very machine.
        ({"Origin": "http://127.0.0.1:5999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_page_of_another_site_cannot_ask(live: LiveProcess, headers: dict[str, str], status: int) -> None:
    before = n_asked(live)
    url = f"http://127.0.0.1:{live.port}/api/v1/dead-letters/replay"
    sent = {"Content-Type": "application/json", **headers}
    answer = httpx.post(url, content=b'{"everything": true}', headers=sent)
    assert answer.status_code == status
    assert n_asked(live) == before


def test_the_page_itself_can_ask(live: LiveProcess) -> None:
    answer = ask(live, {"everything": True}, Origin=f"http://127.0.0.1:{live.port}")
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("path", "table"),
    [("kinds", "dead_letters"), ("replays", "replay_requests"), ("replays/1", "replay_requests")],
)
def test_however_many_look_they_share_a_few_connections(live: LiveProcess, path: str, table: str) -> None:
    ask(live, {"everything": True})
    answers, n_connections = live.flood(table, lambda: live.get(f"/api/v1/dead-letters/{path}"))
    assert (n_connections, answers) == (BOUND, {200: BOUND, 503: FLOOD - BOUND})


def test_however_many_ask_they_share_a_few_connections(live: LiveProcess) -> None:
    before = n_asked(live)
    answers, n_connections = live.flood("replay_requests", lambda: ask(live, {"everything": True}))
    assert (n_connections, answers) == (BOUND, {202: BOUND, 503: FLOOD - BOUND})
    assert n_asked(live) == before + BOUND


def test_a_request_that_is_none_is_not_found(live: LiveProcess) -> None:
    assert live.get("/api/v1/dead-letters/replays/999999").status_code == 404
    assert live.get("/api/v1/dead-letters/replays/99999999999999999999").status_code == 404
