"""The commands beside a live service that asks for a token."""

from collections.abc import Iterator

import pytest

from hl_platform.stack.net import free_port
from tests.terminal.flow import Flow


@pytest.fixture(scope="module")
def guarded(flow: Flow) -> Iterator[str]:
    """The household, whose live service asks for a token for as long as this module lasts; and a token."""
    token = flow.hl("token", "create", "--name", "commands", "--scope", "read:*").stdout.strip()
    flow.stop()
    flow.env |= {"HL_AUTH__REQUIRED": "true", "HL_LIVE__PORT": str(free_port())}
    flow.port, flow.token = int(flow.env["HL_LIVE__PORT"]), token
    flow.restart()
    yield token
    flow.stop()
    del flow.env["HL_AUTH__REQUIRED"]
    flow.token = None
    flow.restart()


@pytest.mark.parametrize(
    "arguments", [("check", "energy", "--limit", "10"), ("tail", "feed", "energy", "--count", "1")]
)
def test_without_a_token_a_command_says_what_to_set(
    flow: Flow, guarded: str, arguments: tuple[str, ...]
) -> None:
    done = flow.hl(*arguments)
    assert guarded
    assert done.exit_code != 0
    assert "HL_LIVE__TOKEN" in done.output


def test_a_wrong_token_is_said_to_be_wrong_and_not_shown(flow: Flow, guarded: str) -> None:
    wrong = guarded[:-3] + "xyz"
    done = flow.hl("check", "energy", "--limit", "10", HL_LIVE__TOKEN=wrong)
    assert "refuses the token" in done.output
    assert wrong not in done.output


def test_check_comes_through_with_a_token(flow: Flow, guarded: str) -> None:
    document = flow.hl_json_with("check", HL_LIVE__TOKEN=guarded)
    assert (document["ok"], document["advice"]) == (True, [])


def test_top_needs_none(flow: Flow, guarded: str) -> None:
    assert guarded
    assert flow.hl("top", "--once").exit_code == 0
