"""Status topics and what is said on them."""

import re

import pytest
from msgspec import ValidationError, convert

from hl_platform.core.presence import PresenceFilter, PresenceTopics, parse_status
from hl_platform.core.routing import Router
from hl_platform.streams import load_streams


@pytest.mark.parametrize(
    ("payload", "online"),
    [
        (b"online", True),
        (b"Offline", False),
        (b" ONLINE\n", True),
        (b'{"state":"offline"}', False),
        (b'{"state": "online", "since": 3}', True),
        (b"", None),
        (b"on", None),
        (b'{"state":1}', None),
        (b"{", None),
        (b"\xff", None),
        (b" " * 2_000 + b"online", None),
    ],
)
def test_a_status_is_one_of_two_words(payload: bytes, online: bool | None) -> None:  # noqa: FBT001
    assert parse_status(payload) is online


@pytest.mark.parametrize(
    "text", ["zigbee2mqtt/+/availability", "+/status", "home/a b/+", "/x/+/y", "a.b/+/c"]
)
def test_a_filter_with_one_device_level_is_taken(text: str) -> None:
    assert convert(text, PresenceFilter) == text
    assert PresenceTopics(text).device_of(text.replace("+", "lamp 1")) == "lamp 1"


@pytest.mark.parametrize("text", ["home/#", "home/+/+", "home/x", "+a/x", "a+/x", "home/+x", "", "$SYS/+/x"])
def test_a_filter_that_leaves_the_device_open_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        convert(text, PresenceFilter)


def test_other_topics_are_no_status() -> None:
    topics = PresenceTopics("home/+/availability")
    found = [
        topics.device_of(f"home/{rest}")
        for rest in ("x", "x/y/availability", "x/availability/y", "/availability")
    ]
    assert found == [None] * 4


def test_a_status_belongs_to_no_stream() -> None:
    router = Router(load_streams().values())
    assert router.stream_of("homelab/energy/meter1/availability") is None
    assert router.is_status("homelab/energy/meter1/availability")
    stream = router.stream_of("homelab/energy/meter1")
    assert stream is not None
    assert re.match(stream.name, "energy")
