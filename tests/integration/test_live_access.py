"""Tokens, tickets and grants on a real service, database and Kafka."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess, end_of
from tests.issuer import Issuer, running_issuer
from tests.servers import temporary_database

DEVICES = ("meter1", "meter2", "meter3")
STREAMS = ("energy", "heatpump", "temperature")
RANGE = {"start": "2026-01-03T00:00:00Z", "end": "2026-01-04T00:00:00Z"}
AT = datetime(2026, 1, 3, 10, tzinfo=UTC)
DEAD_LETTERS = """
insert into hl.dead_letters (dead_letter_topic, dead_letter_partition, dead_letter_offset, dead_lettered_at, stream,
    stage, reason, detail, fingerprint, attempts, first_failed_at, last_failed_at, version, declaration, device_id,
    kafka_topic, kafka_partition, kafka_offset, kafka_time, n_bytes, preview, state)
select 't.dlq', 0, n, now(), 'energy', 'sink', 'invalid', 'no number', 'f', 1, now(), now(), '0', '0', 'meter' || n,
    't', 0, n, now(), 7, '{"a":1}', 'new' from generate_series(1, 3) as n
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def live(
    postgres: EmbeddedPostgres,
    kafka: EmbeddedKafka,
    issuer: Issuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveProcess]:
    with temporary_database(postgres, "live_access") as database:
        live = LiveProcess(
            tmp_path_factory.mktemp("live"),
            database.url,
            kafka.bootstrap_servers,
            HL_DATABASE__READ_URL=database.read_url,
            HL_AUTH__REQUIRED="true",
            HL_AUTH__ISSUER=issuer.url,
            HL_AUTH__AUDIENCE="hl",
            HL_LIVE__ALLOWED_HOSTS="hl.example.org",
            HL_LIVE__TRUSTED_PROXIES="127.0.0.1",
            HL_LIVE__ALLOWED_ORIGINS="https://dash.example",
            HL_LIVE__MAX_CLIENTS_PER_ADDRESS="3",
            HL_LOG__LEVEL="debug",
            HL_LIVE__ACCESS_LOG="all",
        )
        migrate(database.url, database.read_url, live.streams.values())
        live.make_models()
        live.make_topics()
        for device_id in DEVICES:
            live.store(device_id, *((AT + timedelta(minutes=n), 100.0 + n / 10, 1.5) for n in range(90)))
        live.execute(
            "insert into temperature_readings (device_id, timestamp, temperature, received_at) "
            "select 'meter' || n, now(), 20, now() from generate_series(1, 3) as n"
        )
        live.execute(DEAD_LETTERS)
        live.token = create(live, "everything", "read:*")
        live.start_reading()
        yield live
        live.close()


def hl(live: LiveProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hl_platform.cli", "token", *arguments]
    env = {**os.environ, **live.env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)


def create(live: LiveProcess, name: str, *scopes: str, devices: tuple[str, ...] = ()) -> str:
    options = [*(part for scope in scopes for part in ("--scope", scope))]
    options += [part for device in devices for part in ("--device", device)]
    return hl(live, "create", "--name", name, *options).stdout.strip()


def call(live: LiveProcess, path: str, token: str | None = None, **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx takes them
    headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    method = options.pop("method", "GET")
    url = f"http://127.0.0.1:{live.port}{path}"
    return httpx.request(method, url, headers=headers, timeout=PATIENCE_S, **options)


def ticket_of(live: LiveProcess, token: str) -> str:
    return str(call(live, "/api/v1/ticket", token, method="POST").raise_for_status().json()["ticket"])


def socket_of(live: LiveProcess, query: str = "", token: str | None = None, **options: Any) -> Any:  # noqa: ANN401
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return connect(
        f"ws://127.0.0.1:{live.port}/ws/energy{query}", additional_headers=headers, proxy=None, **options
    )


def operations(live: LiveProcess) -> list[tuple[str, str]]:
    paths = live.get("/docs/openapi.json").raise_for_status().json()["paths"]
    return [
        (method.upper(), path.replace("{request_id}", "1"))
        for path, methods in paths.items()
        for method in methods
    ]


def refused(live: LiveProcess, query: str = "", token: str | None = None, **options: Any) -> int:  # noqa: ANN401
    with pytest.raises(InvalidStatus) as refusal, socket_of(live, query, token, **options):
        pass
    return int(refusal.value.response.status_code)


# without a token, or without the scope


def test_every_documented_route_answers_401_without_a_token(live: LiveProcess) -> None:
    answers = {(method, path): call(live, path, method=method) for method, path in operations(live)}
    assert len(answers) > 25
    assert {route: answer.status_code for route, answer in answers.items() if answer.status_code != 401} == {}
    assert {answer.headers["www-authenticate"] for answer in answers.values()} == {'Bearer realm="hl"'}
    assert {answer.headers["content-type"] for answer in answers.values()} == {"application/problem+json"}


def test_replays_are_for_who_has_their_scope_and_is_not_limited_to_devices(live: LiveProcess) -> None:
    def ask(*scopes: str, devices: tuple[str, ...] = ()) -> int:
        token = create(live, f"asker{len(scopes)}{len(devices)}{scopes[0][:4]}", *scopes, devices=devices)
        path, body = "/api/v1/dead-letters/replay", {"everything": True}
        return call(live, path, token, method="POST", json=body).status_code

    assert ask("read:*", "read:pipeline") == 403
    assert ask("replay:dead-letters", devices=("meter1",)) == 403
    assert ask("replay:dead-letters") == 202


@pytest.mark.parametrize("path", ["/docs", "/docs/openapi.json", "/api/v1/gas", "/api/v1/energy/nothing"])
def test_what_is_not_documented_answers_401_as_well(live: LiveProcess, path: str) -> None:
    assert call(live, path).status_code == 401


def test_every_documented_route_answers_403_without_its_scope_and_names_it(live: LiveProcess) -> None:
    token = create(live, "nothing", "read:gas")
    free = {
        "/api/v1/streams",
        "/api/v1/devices",
        "/api/v1/ticket",
        "/api/v1/feed/events",
        "/api/v1/asyncapi.json",
    }
    wrong = {}
    for method, path in operations(live):
        answer = call(live, path, token, method=method)
        parts = path.split("/")
        scope = f"read:{parts[3]}" if len(parts) > 3 and parts[3] in STREAMS else "read:pipeline"
        scope = "replay:dead-letters" if method == "POST" else scope
        if path not in free and (answer.status_code, answer.json().get("scope")) != (403, scope):
            wrong[path] = answer.text
    assert wrong == {}


def test_the_page_itself_needs_no_token(live: LiveProcess) -> None:
    assert call(live, "/").status_code == 200


def test_a_scope_opens_its_stream_and_no_other(live: LiveProcess) -> None:
    token = create(live, "energy-only", "read:energy")
    assert call(live, "/api/v1/energy/latest", token).status_code == 200
    assert call(live, "/api/v1/temperature/latest", token).json()["scope"] == "read:temperature"
    streams = call(live, "/api/v1/streams", token).json()["streams"]
    assert [stream["name"] for stream in streams] == ["energy"]
    unknown = call(live, "/api/v1/gas/latest", token)
    assert (unknown.status_code, "heatpump" in unknown.text) == (403, False)
    assert call(live, "/docs/openapi.json", token).status_code == 403


def test_devices_are_listed_as_far_as_the_token_covers_them(live: LiveProcess) -> None:
    def listed(name: str, **limits: Any) -> set[tuple[str, str]]:  # noqa: ANN401
        answer = call(live, "/api/v1/devices", create(live, name, "read:energy", **limits)).raise_for_status()
        return {(device["stream"], device["device_id"]) for device in answer.json()["devices"]}

    everything = {(one["stream"], one["device_id"]) for one in all_devices(live)}
    assert len({stream for stream, _ in everything}) > 1
    assert listed("devices-energy") == {one for one in everything if one[0] == "energy"}
    assert listed("devices-one", devices=("meter1",)) == {("energy", "meter1")}


def all_devices(live: LiveProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        call(live, "/api/v1/devices", live.token).raise_for_status().json()["devices"]
    )
    return found


def test_the_scope_of_the_pipeline_opens_no_stream(live: LiveProcess) -> None:
    token = create(live, "pipeline", "read:pipeline")
    paths = ("/health", "/metrics", "/api/v1/pipeline", "/api/v1/dead-letters", "/api/v1/energy/latest")
    assert [call(live, path, token).status_code for path in paths] == [200, 200, 200, 200, 403]
    assert call(live, "/metrics").status_code == 401


def test_dead_letters_of_other_devices_are_not_shown(live: LiveProcess) -> None:
    one = create(live, "dead-one", "read:pipeline", devices=("meter2",))
    found = call(live, "/api/v1/dead-letters", one).raise_for_status().json()["dead_letters"]
    assert [letter["device_id"] for letter in found] == ["meter2"]
    two = create(live, "dead-two", "read:pipeline", devices=("meter1", "meter2"))
    assert call(live, "/api/v1/dead-letters", two).status_code == 403
    assert call(live, "/api/v1/dead-letters?device_id=meter3", two).status_code == 403
    assert call(live, "/api/v1/dead-letters?device_id=meter1", two).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Basic aGw6aGw=", "Bearer hl_00000000_" + "A" * 43, "Bearer " + "x" * 9_000],
)
def test_what_is_no_token_of_ours_is_a_401_that_says_so(live: LiveProcess, authorization: str) -> None:
    headers = {"Authorization": authorization, "X-Forwarded-For": "192.0.2.1"}
    answer = call(live, "/api/v1/streams", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="hl", error="invalid_token"'


def test_a_token_with_one_other_character_opens_nothing(live: LiveProcess) -> None:
    assert live.token is not None
    wrong = live.token[:-2] + ("AA" if live.token[-2:] != "AA" else "BB")
    headers = {"Authorization": f"Bearer {wrong}", "X-Forwarded-For": "192.0.2.2"}
    assert call(live, "/api/v1/streams", headers=headers).status_code == 401


def test_who_tries_too_often_must_wait_and_others_need_not(live: LiveProcess) -> None:
    headers = {"Authorization": "Bearer hl_wrong", "X-Forwarded-For": "192.0.2.3"}
    answers = [call(live, "/api/v1/streams", headers=headers) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert int(answers[-1].headers["retry-after"]) >= 1
    other = {"Authorization": "Bearer hl_wrong", "X-Forwarded-For": "192.0.2.4"}
    assert call(live, "/api/v1/streams", headers=other).status_code == 401
    assert live.get("/api/v1/streams").status_code == 200


# grants and requests


def named(value: Any, key: str) -> set[str]:  # noqa: ANN401 - any JSON
    """All values of a key, anywhere in a document."""
    if isinstance(value, dict):
        own = {value[key]} if isinstance(value.get(key), str) else set()
        return own.union(*(named(one, key) for one in value.values()))
    return set().union(*(named(one, key) for one in value)) if isinstance(value, list) else set()


def test_no_grant_and_no_request_ever_deliver_a_foreign_stream_or_device(live: LiveProcess) -> None:
    chance = random.Random(7)
    grants: list[tuple[str, set[str], set[str]]] = []
    for number in range(8):
        scopes = set(chance.sample([*STREAMS, "*"], chance.randint(1, 2)))
        devices = set(chance.sample(DEVICES, chance.randint(0, 2)))
        token = create(
            live, f"fuzz{number}", *(f"read:{scope}" for scope in scopes), devices=tuple(sorted(devices))
        )
        grants.append((token, scopes, devices or set(DEVICES)))
    n_full = 0
    for _ in range(400):
        token, scopes, devices = chance.choice(grants)
        stream = chance.choice(STREAMS)
        level = chance.choice(["latest", "raw", "minutely", "hourly", "daily", "monthly", "series", "cost"])
        pairs: list[tuple[str, str]] = [] if level == "latest" else list(RANGE.items())
        pairs += [("device_id", chance.choice(DEVICES)) for _ in range(chance.randint(0, 2))]
        if level in ("hourly", "daily", "series"):
            pairs += chance.choice([[], [("after", "2026-01-03T00:00:00Z/meter3")], [("fill", "true")]])
        chance.shuffle(pairs)
        answer = call(live, f"/api/v1/{stream}/{level}", token, params=pairs)
        assert answer.status_code in (200, 400, 403, 404), answer.text
        if answer.is_success:
            assert stream in scopes or "*" in scopes
            shown = named(answer.json(), "device_id")
            assert shown <= devices
            n_full += bool(shown)
            assert "private" in answer.headers["cache-control"]
    assert n_full > 50


@pytest.mark.parametrize(
    "query",
    [
        "device_id=meter1&device_id=meter2",
        "device_id=meter2",
        "device%5Fid=meter2",
        "device_id=meter%32",
        "x=1&device_id=meter2",
        "device_id=meter1%26device_id=meter2",
        "device_id=meter1;device_id=meter2",
        "device_id=",
    ],
)
def test_no_way_to_write_a_query_reaches_another_device(live: LiveProcess, query: str) -> None:
    name = "one-device"
    token = _known.setdefault(name, "") or create(live, name, "read:energy", devices=("meter1",))
    _known[name] = token
    answer = call(live, f"/api/v1/energy/latest?{query}", token)
    assert answer.status_code in (400, 403)
    assert "total_energy" not in answer.text


_known: dict[str, str] = {}


def next_reading(client: Any) -> dict[str, Any]:  # noqa: ANN401
    """The next reading; positions, which quiet streams are told now and then, are passed over."""
    while True:
        message: dict[str, Any] = json.loads(client.recv(PATIENCE_S))
        if message["type"] == "data":
            return message


def test_a_limited_feed_never_delivers_another_device(live: LiveProcess) -> None:
    token = create(live, "feed-one", "read:energy", devices=("meter1",))
    with socket_of(live, token=token) as client:
        assert json.loads(client.recv(PATIENCE_S))["device_id"] == ["meter1"]
        live.produce("meter2", [1.0, 2.0, 3.0])
        live.produce("meter1", [4.0])
        frame = next_reading(client)
    assert (frame["device_id"], frame["data"]["total_energy_kwh"]) == ("meter1", 4.0)
    assert refused(live, "?device_id=meter2", token) == 403


def feed_of(live: LiveProcess, token: str) -> Any:  # noqa: ANN401
    headers = {"Authorization": f"Bearer {token}"}
    return connect(f"ws://127.0.0.1:{live.port}/api/v1/feed", additional_headers=headers, proxy=None)


def ask(client: Any, **wish: Any) -> dict[str, Any]:  # noqa: ANN401
    client.send(json.dumps({"type": "subscribe", **wish}))
    answer: dict[str, Any] = json.loads(client.recv(PATIENCE_S))
    return answer


def test_a_subscription_gets_no_stream_and_no_device_that_its_grant_does_not_cover(live: LiveProcess) -> None:
    token = create(live, "subscriber", "read:energy", devices=("meter1",))
    with feed_of(live, token) as client:
        refusals = [
            ask(client, streams=["temperature"]),
            ask(client, streams=["energy", "gas"]),
            ask(client, streams=["energy"], device_id=["meter1", "meter2"]),
        ]
        assert {one.get("code") for one in refusals} == {"forbidden"}
        assert "heatpump" not in str(refusals)
        assert ask(client, streams=["energy"])["device_id"] == ["meter1"]
        snapshot = next_reading(client)
        live.produce("meter2", [1.0, 2.0, 3.0])
        live.produce("meter1", [77.0])
        seen = [snapshot]
        while seen[-1]["data"]["total_energy_kwh"] != 77.0:
            seen.append(next_reading(client))
    assert {frame["device_id"] for frame in seen} == {"meter1"}


def a_wish(chance: random.Random) -> dict[str, Any]:
    """A subscription to some streams, devices and fields, most of which the token may not see."""

    def some(names: tuple[str, ...]) -> list[str]:
        return chance.sample(names, chance.randint(1, len(names)))

    wish: dict[str, Any] = {"streams": some((*STREAMS, "gas")), "mode": chance.choice(["all", "latest"])}
    if chance.random() < 0.7:
        wish["device_id"] = some((*DEVICES, "meter1/", "METER1", ""))
    if chance.random() < 0.5:
        wish["fields"] = some(("power_kw", "total_energy_kwh", "temperature", "device_id"))
    if chance.random() < 0.5:
        wish["positions"] = {name: dict.fromkeys("012", 0) for name in some(STREAMS)}
    if chance.random() < 0.2:
        wish["snapshot"] = False
    return wish


def test_no_subscription_ever_delivers_a_foreign_reading(live: LiveProcess) -> None:
    """Any streams, devices, fields and positions, one after the other on one connection, while all devices report."""
    token, chance = create(live, "fuzz", "read:energy", devices=("meter1",)), random.Random(1)
    frames: list[dict[str, Any]] = []
    with feed_of(live, token) as client:
        for number in range(150):
            client.send(json.dumps({"type": "subscribe", **a_wish(chance)}))
            if number % 10 == 0:
                for device_id in DEVICES:
                    live.produce(device_id, [float(number)])
        client.send(json.dumps({"type": "subscribe", "streams": ["energy"], "snapshot": False}))
        client.send(json.dumps({"type": "ping"}))
        while not frames or frames[-1]["type"] != "pong":
            frames.append(json.loads(client.recv(PATIENCE_S)))
        live.produce("meter2", [998.0])
        live.produce("meter1", [999.0])
        while frames[-1].get("data", {}).get("total_energy_kwh") != 999.0:
            frames.append(json.loads(client.recv(PATIENCE_S)))
    data = [frame for frame in frames if frame["type"] == "data"]
    assert {(frame["stream"], frame["device_id"]) for frame in data} == {("energy", "meter1")}
    told = [frame for frame in frames if frame["type"] == "subscribed"]
    assert {(frame["stream"], *frame["device_id"]) for frame in told} == {("energy", "meter1")}
    assert {frame["code"] for frame in frames if frame["type"] == "error"} >= {"forbidden"}


def events(live: LiveProcess, query: str, token: str | None = None) -> Any:  # noqa: ANN401
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{live.port}/api/v1/feed/events?{query}"
    return httpx.stream("GET", url, headers=headers, timeout=PATIENCE_S)


def test_events_cover_what_the_grant_does_and_end_with_the_token(live: LiveProcess) -> None:
    token = create(live, "events", "read:energy", devices=("meter1",))
    ticket = ticket_of(live, token)
    with events(live, "stream=temperature", token) as answer:
        assert answer.status_code == 403
    with events(live, "stream=energy&device_id=meter2", token) as answer:
        assert answer.status_code == 403
    text = ""
    with events(live, f"stream=energy&ticket={ticket}") as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            text += line
            if '"data"' in line and "events" not in _revoked:
                _revoked.add("events")
                hl(live, "revoke", "events")
    assert named(
        [json.loads(one) for one in re.findall(r"data: (.*?)(?=id: |: nothing|$)", text)], "device_id"
    ) == {"meter1"}
    with events(live, f"stream=energy&ticket={ticket}") as answer:
        assert answer.status_code == 401


_revoked: set[str] = set()


# tickets


def test_a_ticket_is_good_once(live: LiveProcess) -> None:
    assert live.token is not None
    ticket = ticket_of(live, live.token)
    with socket_of(live, f"?ticket={ticket}") as client:
        assert json.loads(client.recv(PATIENCE_S))["type"] == "subscribed"
    assert refused(live, f"?ticket={ticket}") == 401


def test_a_ticket_opens_no_more_than_its_token(live: LiveProcess) -> None:
    token = create(live, "ticket-temperature", "read:temperature")
    assert refused(live, f"?ticket={ticket_of(live, token)}") == 403


def test_a_ticket_opens_no_rest_route(live: LiveProcess) -> None:
    assert live.token is not None
    assert call(live, f"/api/v1/energy/latest?ticket={ticket_of(live, live.token)}").status_code == 401


def test_a_token_in_the_address_is_refused(live: LiveProcess) -> None:
    assert live.token is not None
    assert refused(live, f"?ticket={live.token}") == 401
    assert call(live, f"/api/v1/streams?token={live.token}").status_code == 401


def test_without_a_token_there_is_no_feed(live: LiveProcess) -> None:
    assert refused(live) == 401


# the end of a token


def test_a_revoked_token_is_refused_and_its_feeds_are_closed_within_5_s(live: LiveProcess) -> None:
    token = create(live, "short", "read:energy")
    ticket = ticket_of(live, token)
    with socket_of(live, token=token) as client:
        client.recv(PATIENCE_S)
        hl(live, "revoke", "short")
        assert end_of(client, 5) == (4401, "token_ended")
    assert call(live, "/api/v1/energy/latest", token).status_code == 401
    assert refused(live, f"?ticket={ticket}") == 401


def test_an_expired_token_is_refused_and_its_feeds_are_closed(live: LiveProcess) -> None:
    token = create(live, "expiring", "read:energy")
    with socket_of(live, token=token) as client:
        client.recv(PATIENCE_S)
        live.execute("update hl.tokens set expires_at = now() where name = 'expiring'")
        assert end_of(client, 5) == (4401, "token_ended")
    assert call(live, "/api/v1/energy/latest", token).status_code == 401


def test_a_name_can_be_given_again_after_it_was_revoked(live: LiveProcess) -> None:
    first = create(live, "again", "read:energy")
    hl(live, "revoke", "again")
    second = create(live, "again", "read:energy")
    assert call(live, "/api/v1/energy/latest", second).status_code == 200
    eventually(lambda: call(live, "/api/v1/energy/latest", first).status_code == 401)


def test_a_list_says_when_a_token_was_used_and_not_what_it_is(live: LiveProcess) -> None:
    token = create(live, "seen", "read:energy")
    call(live, "/api/v1/energy/latest", token).raise_for_status()

    def row() -> dict[str, Any]:
        return next(one for one in json.loads(hl(live, "list", "--json").stdout) if one["name"] == "seen")

    eventually(lambda: row()["last_used_at"] is not None)
    listed = row()
    assert (listed["state"], listed["scopes"]) == ("valid", ["read:energy"])
    assert token[12:] not in hl(live, "list", "--all").stdout + json.dumps(listed)


# an issuer's


def test_a_jwt_opens_what_its_scopes_say(live: LiveProcess, issuer: Issuer) -> None:
    token = issuer.token(scope="openid read:energy")
    paths = ("/api/v1/energy/latest", "/api/v1/temperature/latest", "/api/v1/pipeline")
    assert [call(live, path, token).status_code for path in paths] == [200, 403, 403]
    with socket_of(live, f"?ticket={ticket_of(live, token)}") as client:
        assert json.loads(client.recv(PATIENCE_S))["type"] == "subscribed"
    old = {"Authorization": f"Bearer {issuer.token(exp=1)}", "X-Forwarded-For": "192.0.2.5"}
    assert call(live, paths[0], headers=old).status_code == 401


def test_a_feed_ends_with_its_jwt(live: LiveProcess, issuer: Issuer) -> None:
    # Long enough that the feed is open before on a busy machine, too.
    token = issuer.token(exp=int(time.time()) + 10)
    with socket_of(live, token=token) as client:
        client.recv(PATIENCE_S)
        assert end_of(client, PATIENCE_S) == (4401, "token_ended")


# what else is at the door


def test_one_address_has_so_many_feeds_and_no_more(live: LiveProcess) -> None:
    token = create(live, "many", "read:energy")
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.9"}
    url = f"ws://127.0.0.1:{live.port}/ws/energy"

    def open_one() -> Any:  # noqa: ANN401
        return connect(url, additional_headers=headers, proxy=None)

    with open_one(), open_one(), open_one():
        with pytest.raises(InvalidStatus) as refusal, open_one():
            pass
        assert refusal.value.response.status_code == 429
        with socket_of(live, token=token) as other:
            assert json.loads(other.recv(PATIENCE_S))["type"] == "subscribed"


def test_only_our_names_are_answered(live: LiveProcess) -> None:
    statuses = [
        call(live, "/api/v1/streams", live.token, headers={"Host": host}).status_code
        for host in ("hl.example.org", "localhost:1", "evil.example", "192.0.2.1")
    ]
    assert statuses == [200, 200, 421, 421]
    assert refused(live, token=live.token, origin="https://evil.example") == 403


def test_only_listed_origins_may_read_answers(live: LiveProcess) -> None:
    def allowed(origin: str) -> str | None:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        asked = call(live, "/api/v1/streams", method="OPTIONS", headers=headers)
        answer = call(live, "/api/v1/streams", live.token, headers={"Origin": origin})
        both = {one.headers.get("access-control-allow-origin") for one in (asked, answer)}
        assert len(both) == 1
        return both.pop()

    assert allowed("https://dash.example") == "https://dash.example"
    assert allowed("https://evil.example") is None


def test_the_role_that_may_only_read_does_not_see_the_tokens(live: LiveProcess) -> None:
    with (
        psycopg.connect(live.env["HL_DATABASE__READ_URL"]) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("select from hl.tokens")


def test_no_token_and_no_ticket_is_stored_or_logged(live: LiveProcess) -> None:
    token = create(live, "quiet", "read:energy")
    ticket = ticket_of(live, token)
    with socket_of(live, f"?ticket={ticket}") as client:
        client.recv(PATIENCE_S)
    refused(live, f"?ticket={ticket}")
    call(live, f"/api/v1/energy/latest?ticket={ticket}&token={token}")
    call(live, f"/api/v1/energy/latest?token={token}", token)
    wrong = token[:-3] + "abc"
    call(live, "/health", wrong)
    log = live.log()
    assert "credential_refused" in log
    assert [secret for secret in (token, ticket, token[12:], wrong[12:]) if secret in log] == []
    assert re.findall(r"hl_[0-9a-f]{8}_", log) == []
    with psycopg.connect(live.env["HL_DATABASE__URL"]) as conn:
        rows = str(conn.execute("select t::text, encode(digest, 'escape') from hl.tokens t").fetchall())
    assert token[12:] not in rows


def test_an_open_address_without_a_token_does_not_start(live: LiveProcess, database_url: str) -> None:
    migrate(database_url, None, live.streams.values())
    env = {**os.environ, **live.env, "HL_LIVE__HOST": "0.0.0.0", "HL_DATABASE__URL": database_url}  # noqa: S104
    del env["HL_AUTH__ISSUER"], env["HL_AUTH__AUDIENCE"]
    command = [sys.executable, "-m", "hl_live"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "hl token create" in ended.stderr) == (2, True)


def lines_of(live: LiveProcess, token_name: str) -> list[dict[str, Any]]:
    """What the access log says of a token's requests."""
    lines = [json.loads(line) for line in live.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("token") == token_name]


def test_the_access_log_names_tokens_and_never_shows_them(live: LiveProcess) -> None:
    # Wrong tokens of other tests may have locked our address for some seconds.
    # Another token waits it out, so that the log of ours is what is asked below.
    waiting = create(live, "waiting", "read:energy")
    eventually(lambda: call(live, "/api/v1/streams", waiting).status_code == 200)
    token = create(live, "logged", "read:energy")
    call(live, "/api/v1/energy/latest?device_id=meter1", token)
    call(live, "/api/v1/heatpump/latest", token)
    ticket = ticket_of(live, token)
    with feed_of(live, token) as client:
        ask(client, streams=["energy"])
    lines = eventually(lambda: lines_of(live, "logged"), lambda found: len(found) == 5)
    assert [(line["event"], line["path"], line.get("status")) for line in lines] == [
        ("request", "/api/v1/energy/latest", 200),
        ("request", "/api/v1/heatpump/latest", 403),
        ("request", "/api/v1/ticket", 200),
        ("feed_opened", "/api/v1/feed", None),
        ("feed_closed", "/api/v1/feed", None),
    ]
    assert lines[-1]["n_messages"] >= 1
    assert [secret for secret in (token, ticket, "meter1") if secret in json.dumps(lines)] == []
