"""JWTs of an issuer, whose keys a local server gives out."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hl_live.auth.access import FEED, Access, grant_of
from hl_live.auth.gate import Gate
from hl_live.auth.jwts import JwtWatch
from hl_platform.adapters.oidc import MAX_ANSWER_BYTES, fetch_keys
from hl_platform.core.access import Grant
from hl_platform.core.errors import ConfigError, DatabaseAwayError, TransientError
from hl_platform.core.settings import load_settings
from tests.issuer import CURVE, OTHER, Issuer, jwk, running_issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as server:
        yield server


def find(issuer: Issuer, *tokens: str) -> list[Grant | None]:
    async def all_of_them() -> list[Grant | None]:
        watch = JwtWatch(issuer.url, "hl", look_again_s=0)
        return [await watch.find(token) for token in tokens]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "read:energy openid read:*"}, {"read:energy", "read:*"}),
        ({"scp": ["read:energy", "profile", 7]}, {"read:energy"}),
        ({"scp": "read:energy"}, {"read:energy"}),
        ({"scope": 5}, set()),
        ({}, set()),
    ],
)
def test_scopes_come_from_scope_or_scp(issuer: Issuer, claims: dict[str, Any], scopes: set[str]) -> None:
    (grant,) = find(issuer, issuer.token(without=() if "scope" in claims else ("scope",), **claims))
    assert grant is not None
    assert (grant.scopes, grant.subject, grant.device_ids) == (scopes, "ann", None)


def test_a_key_of_a_curve_will_do(issuer: Issuer) -> None:
    issuer.keys.append(jwk(CURVE, "curve"))
    assert find(issuer, issuer.token(CURVE, "curve", "ES256"))[0] is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"},
        {"aud": "other"},
        {"exp": 1},
        {"nbf": 2**40},
        {"without": ("exp",)},
        {"without": ("aud",)},
        {"without": ("iss",)},
        {"key": OTHER},
        {"key_id": "unknown"},
        {"key": "x" * 32, "algorithm": "HS256"},
        {"key": None, "algorithm": "none"},
    ],
)
def test_a_token_that_is_wrong_in_any_way_opens_nothing(issuer: Issuer, wrong: dict[str, Any]) -> None:
    assert find(issuer, issuer.token(**wrong)) == [None]


def test_a_changed_token_opens_nothing(issuer: Issuer) -> None:
    head, body, signature = issuer.token().split(".")
    other = issuer.token(scope="read:*").split(".")[1]
    assert find(issuer, f"{head}.{other}.{signature}", f"{head}.{body}.", "a.b.c", "..") == [None] * 4


def test_keys_rotate(issuer: Issuer) -> None:
    async def rotate() -> list[bool]:
        watch = JwtWatch(issuer.url, "hl", look_again_s=0)
        old = await watch.find(issuer.token())
        assert old is not None
        issuer.keys = [jwk(OTHER, "two")]
        new = await watch.find(issuer.token(OTHER, "two"))
        assert new is not None
        return [watch.holds(new), watch.holds(old), await watch.find(issuer.token()) is None]

    assert asyncio.run(rotate()) == [True, False, True]


def test_unknown_keys_do_not_make_us_ask_again_and_again(issuer: Issuer) -> None:
    async def flood() -> None:
        watch = JwtWatch(issuer.url, "hl")
        for number in range(20):
            assert await watch.find(issuer.token(key_id=f"key{number}")) is None

    asyncio.run(flood())
    assert issuer.n_requests == 2


def test_an_issuer_that_is_away_is_an_outage_and_no_refusal(issuer: Issuer) -> None:
    token = issuer.token()
    issuer.document = {}
    with pytest.raises(DatabaseAwayError):
        find(issuer, token)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "{url}/moved"},
        {"jwks_uri": None},
        {"long": "x" * MAX_ANSWER_BYTES},
    ],
)
def test_keys_are_taken_from_the_issuer_alone(issuer: Issuer, document: dict[str, Any]) -> None:
    issuer.document.update(document)
    if document.get("jwks_uri") == "{url}/moved":
        issuer.document["jwks_uri"] = f"{issuer.url}/moved"
    with pytest.raises(TransientError):
        fetch_keys(issuer.url)


@pytest.mark.parametrize(
    "env",
    [
        {"HL_AUTH__ISSUER": "https://id.example"},
        {"HL_AUTH__AUDIENCE": "hl"},
        {"HL_AUTH__ISSUER": "http://id.example", "HL_AUTH__AUDIENCE": "hl"},
        {"HL_AUTH__ISSUER": "http://127.0.0.1.evil.example", "HL_AUTH__AUDIENCE": "hl"},
    ],
)
def test_an_issuer_needs_an_audience_and_tls(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="HL_AUTH__ISSUER"):
        load_settings(env)


def test_a_stream_of_events_is_ended_when_the_key_of_its_token_is_taken_back(issuer: Issuer) -> None:
    settings = load_settings(
        {
            "HL_DATABASE__URL": "postgresql://hl@127.0.0.1:1/hl",
            "HL_AUTH__REQUIRED": "true",
            "HL_AUTH__ISSUER": issuer.url,
            "HL_AUTH__AUDIENCE": "hl",
        }
    )
    scope: Any = {
        "type": "http",
        "headers": [(b"authorization", f"Bearer {issuer.token()}".encode())],
        "query_string": b"",
        "path_params": {},
        "route_handler": SimpleNamespace(opt={"access": FEED}),
        "client": ("192.0.2.1", 1),
    }
    sent: list[Any] = []

    async def serve() -> list[bool]:
        gate = Gate(settings)
        begun = asyncio.Event()

        async def events(scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            allowed.append(grant_of(SimpleNamespace(scope=scope)).may_read("energy"))  # type: ignore[arg-type]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            begun.set()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:  # noqa: ANN401 - ASGI
            sent.append(message)

        async def receive() -> Any:  # noqa: ANN401 - ASGI
            await asyncio.Event().wait()

        allowed: list[bool] = []
        served = asyncio.ensure_future(Access(events, gate)(scope, receive, send))
        await begun.wait()
        gate._end_connections()
        still_there = not served.done()
        issuer.keys = [jwk(OTHER, "two")]
        assert gate._jwts is not None
        await gate._jwts._fetch(0.0)
        gate._end_connections()
        await served
        return [*allowed, still_there]

    assert asyncio.run(serve()) == [True, True]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"] is False
