"""Grants, tokens, tickets and attempts, apart from a service."""

from urllib.parse import parse_qsl

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.auth.access import check_grant
from hl_live.auth.attempts import BURST, MAX_ADDRESSES, REFILL_S, Attempts, network_of
from hl_live.auth.connections import Connection, Connections
from hl_live.auth.narrowing import read_query, take_ticket, write_query
from hl_live.auth.tickets import LIFE_S, MAX_TICKETS_OF_ONE, Tickets
from hl_live.problems import ForbiddenError, TooManyError
from hl_platform.core.access import (
    EVERYTHING,
    READ_PIPELINE,
    REPLAY,
    Grant,
    digest_of,
    is_token,
    make_token,
    token_id_of,
)
from hl_platform.stack.tokens import check_token, parse_life

DEVICES = st.sampled_from(["meter1", "meter2", "meter3", "a b", "ü&=%;"])
SCOPES = st.sampled_from(["read:energy", "read:temperature", "read:pipeline", "read:*"])
ROUTES = st.sampled_from(
    [{"stream": "energy"}, {"stream": "temperature"}, {"access": "read:pipeline", "devices": "one"}, {}]
)


def grant_for(*scopes: str, devices: frozenset[str] | None = None, key: str = "k") -> Grant:
    return Grant(subject="test", key=key, scopes=frozenset(scopes), device_ids=devices)


# grants


@pytest.mark.parametrize(
    ("scopes", "stream", "allowed"),
    [
        ({"read:energy"}, "energy", True),
        ({"read:energy"}, "energy2", False),
        ({"read:*"}, "energy", True),
        ({"read:pipeline"}, "pipeline", False),
        ({"read:*"}, "pipeline", True),
        ({"energy", "write:energy", "read", "*"}, "energy", False),
        (set(), "energy", False),
    ],
)
def test_a_scope_opens_what_it_names(scopes: set[str], stream: str, *, allowed: bool) -> None:
    assert grant_for(*scopes).may_read(stream) is allowed


def test_a_grant_shows_no_device_of_a_stream_that_it_does_not_open() -> None:
    grant = grant_for("read:energy", devices=frozenset({"meter1"}))
    assert (grant.devices("energy"), grant.devices("heatpump")) == ({"meter1"}, frozenset())
    assert EVERYTHING.devices("energy") is None


@given(
    st.sets(SCOPES),
    st.none() | st.frozensets(DEVICES, min_size=1),
    ROUTES,
    st.lists(st.tuples(st.sampled_from(["device_id", "start", "device"]), DEVICES), max_size=4),
)
def test_what_is_let_through_names_only_devices_of_the_grant(
    scopes: set[str], devices: frozenset[str] | None, route: dict[str, str], pairs: list[tuple[str, str]]
) -> None:
    grant = grant_for(*scopes, devices=devices)
    try:
        seen = parse_qsl(write_query(check_grant(grant, route, {}, pairs)).decode())
    except ForbiddenError:
        return
    named = {value for name, value in seen if name == "device_id"}
    assert devices is None or (named and named <= devices)
    assert "read:*" in scopes or route.get("access", f"read:{route.get('stream')}") in scopes


def test_who_may_read_everything_may_not_replay() -> None:
    with pytest.raises(ForbiddenError):
        check_grant(grant_for("read:*", "read:pipeline"), {"access": REPLAY}, {}, [])
    assert check_grant(grant_for(REPLAY), {"access": REPLAY}, {}, []) == []
    with pytest.raises(ForbiddenError):
        check_grant(grant_for(REPLAY), {"access": READ_PIPELINE}, {}, [])


def test_a_route_that_says_nothing_is_for_who_may_read_everything() -> None:
    with pytest.raises(ForbiddenError):
        check_grant(grant_for("read:energy", "read:pipeline"), {}, {}, [])
    with pytest.raises(ForbiddenError):
        check_grant(grant_for("read:*", devices=frozenset({"meter1"})), {}, {}, [])
    assert check_grant(grant_for("read:*"), {}, {}, []) == []


@given(st.binary(max_size=60))
def test_a_query_written_again_means_what_was_checked(query: bytes) -> None:
    pairs = read_query(query)
    assert read_query(write_query(pairs)) == pairs


def test_the_ticket_is_taken_out_of_the_query() -> None:
    pairs, ticket = take_ticket(read_query(b"ticket=a&device_id=b&ticket=c"))
    assert (pairs, ticket) == ([("device_id", "b")], "a")


# tokens


def test_a_token_is_recognised_by_its_hash_alone() -> None:
    token = make_token()
    assert is_token(token, digest_of(token))
    assert not is_token(make_token(), digest_of(token))
    assert not is_token("ü", digest_of(token))
    token_id = token_id_of(token)
    assert token_id is not None
    assert token.startswith(f"hl_{token_id}_")


@pytest.mark.parametrize("text", ["", "hl_", "hl_0123abcd_short", "hl_0123ABCD_" + "a" * 43, "ü" * 55])
def test_what_has_not_the_form_of_a_token_has_no_id(text: str) -> None:
    assert token_id_of(text) is None


@pytest.mark.parametrize("text", ["90", "0d", "d", "-1d", "1w", "1.5d", "999999d"])
def test_a_life_that_is_none_is_named(text: str) -> None:
    with pytest.raises(click.UsageError, match="--expires"):
        parse_life(text)


def test_a_life_is_days_hours_or_minutes() -> None:
    assert [parse_life(text).total_seconds() for text in ("90d", "12h", "30m")] == [7_776_000, 43_200, 1_800]


@pytest.mark.parametrize(
    ("name", "scope", "device"),
    [("a b", "read:*", "m"), ("a", "write:energy", "m"), ("a", "read:Energy", "m"), ("a", "read:*", "a/b")],
)
def test_a_token_with_a_mistake_is_not_made(name: str, scope: str, device: str) -> None:
    with pytest.raises(click.UsageError):
        check_token(name, [scope], [device])


# tickets


def test_a_ticket_opens_once_and_only_in_time() -> None:
    tickets, grant = Tickets(), grant_for("read:*")
    used, late = tickets.issue(grant, 0.0), tickets.issue(grant, 0.0)
    assert [tickets.take(used, 1.0), tickets.take(used, 1.0)] == [grant, None]
    assert tickets.take(late, float(LIFE_S)) is None
    assert tickets.take("unknown", 0.0) is None


def test_one_token_cannot_use_up_the_tickets_of_others() -> None:
    tickets = Tickets()
    other = tickets.issue(grant_for("read:*", key="other"), 0.0)
    own = [tickets.issue(grant_for("read:*"), 0.0) for _ in range(MAX_TICKETS_OF_ONE + 1)]
    assert tickets.take(own[0], 0.0) is None
    assert tickets.take(own[-1], 0.0) is not None
    assert tickets.take(other, 0.0) is not None


# attempts and connections


def test_wrong_tokens_are_taken_a_few_at_a_time() -> None:
    attempts = Attempts()
    for _ in range(BURST):
        assert attempts.wait_s("192.0.2.1", 0.0) == 0
        attempts.fail("192.0.2.1", 0.0)
    assert attempts.wait_s("192.0.2.1", 0.0) == REFILL_S
    assert attempts.wait_s("192.0.2.2", 0.0) == 0
    assert attempts.wait_s("192.0.2.1", REFILL_S) == 0


def test_any_number_of_addresses_takes_bounded_memory() -> None:
    attempts = Attempts()
    for number in range(MAX_ADDRESSES + 100):
        attempts.fail(f"address {number}", 0.0)
    assert len(attempts) == MAX_ADDRESSES


def test_an_address_of_ipv6_is_its_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::2:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("testclient") == "testclient"


def test_connections_are_counted_while_they_last_and_ended_when_their_grant_is() -> None:
    connections, ended = Connections(1), []
    kept, over = (
        Connection(grant_for(key="kept"), lambda: ended.append("kept")),
        Connection(grant_for(), lambda: ended.append("over")),
    )
    with connections.hold("a", kept), connections.hold("b", over):
        with pytest.raises(TooManyError):
            connections.check("a")
        assert connections.end_unless(lambda grant: grant.key == "kept") == 1
        connections.end_unless(lambda grant: grant.key == "kept")
    connections.check("a")
    assert ended == ["over"]
