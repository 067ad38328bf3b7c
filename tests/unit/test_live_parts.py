"""The pure parts of the live service."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.feed.frames import Frame
from hl_live.guard import Doors, asks_for_tokens, check_exposure
from hl_live.health import plan_kafka_check, plan_stage_check
from hl_live.latest import LatestReadings
from hl_live.params import DEVICES, LIMIT, check_range, fields_param, range_params, read_params
from hl_live.problems import BadParameterError, UnknownStreamError, problem_of
from hl_live.routes.page import PageFiles
from hl_platform.adapters.kafka.feed_reader import FeedState
from hl_platform.adapters.postgres.readings import LeaseRow
from hl_platform.core.errors import (
    BackpressureError,
    ConfigError,
    InvariantError,
    TookTooLongError,
    TransientError,
)
from hl_platform.core.live_sections import LiveSettings
from hl_platform.core.readings import Reading
from hl_platform.core.settings import Settings
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def reading(device_id: str, at: datetime, value: float = 1.0) -> Frame:
    return Frame(load_streams()["energy"], Reading(device_id, at, (value,), None, at), None)


# latest


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_the_newest_reading_is_kept_whatever_the_order(steps: list[tuple[bool, int]]) -> None:
    latest = LatestReadings()
    for from_kafka, second in steps:
        one = reading("m1", NOW + timedelta(seconds=second))
        if from_kafka:
            latest.put_new(one)
        else:
            latest.put_stored([one])
    newest = max((second for _, second in steps), default=None)
    expected = [] if newest is None else [NOW + timedelta(seconds=newest)]
    assert [found.reading.timestamp for found in latest.list()] == expected


def test_a_correction_from_kafka_wins_over_what_is_stored() -> None:
    latest = LatestReadings()
    latest.put_new(reading("m1", NOW, 1.0))
    latest.put_new(reading("m1", NOW, 2.0))
    latest.put_stored([reading("m1", NOW, 1.0)])
    assert latest.list()[0].reading.values == (2.0,)


def test_latest_is_ordered_and_filtered_by_device() -> None:
    latest = LatestReadings()
    latest.put_stored([reading("b", NOW), reading("a", NOW), reading("c", NOW)])
    assert [found.reading.device_id for found in latest.list()] == ["a", "b", "c"]
    assert [found.reading.device_id for found in latest.list(["c", "a", "x"])] == ["a", "c"]


# parameters


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "start"),
        ({"start": ["2026-01-03T16:00:00Z"]}, "end"),
        ({"start": ["2026-01-03T16:00:00"], "end": ["2026-01-03T17:00:00Z"]}, "start"),
        ({"start": ["yesterday"]}, "start"),
        ({"start": [""]}, "start"),
        ({"start": ["0001-01-01T00:00:00Z"]}, "start"),
        ({"start": ["9999-12-31T23:00:00Z"]}, "start"),
        ({"start": ["2026-01-03T16:00:00Z"] * 2}, "start"),
        ({"strat": ["2026-01-03T16:00:00Z"]}, "strat"),
        ({"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T16:00:00Z"], "limit": ["0"]}, "limit"),
        ({"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T16:00:00Z"], "limit": ["10001"]}, "limit"),
        ({"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T16:00:00Z"], "limit": ["1e3"]}, "limit"),
        (
            {"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T16:00:00Z"], "device_id": ["a/b"]},
            "device_id",
        ),
        (
            {"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T16:00:00Z"], "device_id": [""]},
            "device_id",
        ),
    ],
)
def test_a_bad_parameter_is_named(given: dict[str, list[str]], parameter: str) -> None:
    with pytest.raises(BadParameterError) as refused:
        read_params(given, (*range_params(BERLIN), DEVICES, LIMIT))
    assert refused.value.parameter == parameter


def test_parameters_have_their_values_and_defaults() -> None:
    values = read_params(
        {"start": ["2026-01-03T16:00:00Z"], "end": ["2026-01-03T18:00:00 01:00"], "device_id": ["a", "b"]},
        (*range_params(BERLIN), DEVICES, LIMIT),
    )
    expected = {"start": NOW, "end": NOW + timedelta(hours=1), "device_id": ["a", "b"], "limit": 1000}
    assert values == expected


def test_a_date_is_a_local_midnight() -> None:
    values = read_params({"start": ["2026-06-01"], "end": ["2026-06-02"]}, range_params(BERLIN))
    assert values["start"] == datetime(2026, 5, 31, 22, 0, tzinfo=UTC)


def test_fields_come_in_the_order_of_the_declaration_however_they_are_given() -> None:
    param = fields_param(("a", "b", "c"))
    assert read_params({"fields": ["c,b", "a"]}, (param,)) == {"fields": ("a", "b", "c")}


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1), timedelta(days=31, seconds=1)])
def test_a_range_is_forward_and_bounded(length: timedelta) -> None:
    with pytest.raises(BadParameterError, match="end"):
        check_range(NOW, NOW + length, timedelta(days=31))


# problems


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadParameterError("start", "x", "a time"), 400),
        (UnknownStreamError("gas", ["energy"]), 404),
        (TransientError("secret-host is away"), 503),
        (BackpressureError("full", retry_after_s=3.2), 503),
        (TookTooLongError("secret path"), 503),
        (InvariantError("secret"), 500),
        (ValueError("secret"), 500),
    ],
)
def test_every_error_has_its_status_and_tells_no_secrets(error: Exception, status: int) -> None:
    problem, _ = problem_of(error)
    assert (problem.status, "secret" in problem.detail) == (status, False)


def test_an_outage_says_when_to_try_again() -> None:
    assert problem_of(BackpressureError("full", retry_after_s=3.2))[1] == {"Retry-After": "4"}


# guard


def listening(host: str = "127.0.0.1", **more: str) -> Settings:
    return Settings(live=LiveSettings(host=host, **more))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", "", "127.0.0.1.example.org"])  # noqa: S104
def test_without_tokens_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(ConfigError, match=r"HL_LIVE__HOST.*hl token create"):
        check_exposure(listening(host), lambda: False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])  # noqa: S104
def test_with_a_token_any_address_is_listened_on_and_tokens_are_asked_for(host: str) -> None:
    check_exposure(listening(host), lambda: True)
    assert asks_for_tokens(listening(host))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_loopback_is_listened_on_without_tokens(host: str) -> None:
    check_exposure(listening(host), lambda: False)
    assert not asks_for_tokens(listening(host))


@pytest.mark.parametrize(
    "more", [{"allowed_hosts": "hl.example.org"}, {"trusted_proxies": "10.0.0.1"}, {"host": "10.0.0.1"}]
)
def test_who_lets_others_in_asks_for_tokens(more: dict[str, str]) -> None:
    assert asks_for_tokens(listening(**more))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8000", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        (None, True),
        ("evil.example", False),
        ("localhost.evil.example:8000", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_that_points_at_us_is_not_us(host: str | None, *, allowed: bool) -> None:
    assert Doors(LiveSettings()).is_allowed_host(host) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:5173", True),
        ("https://home.example", True),
        ("http://evil.example", False),
        ("null", False),
        ("file://localhost", False),
        ("http://[", False),
    ],
)
def test_a_page_from_elsewhere_may_not_open_the_feed(origin: str | None, *, allowed: bool) -> None:
    assert Doors(LiveSettings()).is_allowed_origin(origin, "home.example") is allowed


def test_an_open_service_has_its_own_names_and_addresses() -> None:
    doors = Doors(LiveSettings(host="0.0.0.0", allowed_hosts="hl.example.org, home.lan"))  # noqa: S104
    allowed = ["hl.example.org", "HOME.lan:8000", "192.168.1.5:8000", "[fe80::1]:8000", "localhost"]
    assert [host for host in allowed if not doors.is_allowed_host(host)] == []
    assert [host for host in ("evil.example", "x.home.lan", "") if doors.is_allowed_host(host)] == []


def test_on_loopback_no_address_but_loopback_is_a_name_of_ours() -> None:
    doors = Doors(LiveSettings(allowed_hosts="hl.example.org"))
    assert doors.is_allowed_host("hl.example.org")
    assert not doors.is_allowed_host("192.168.1.5")


def test_listed_origins_may_open_the_feed() -> None:
    doors = Doors(LiveSettings(allowed_origins="https://dash.example"))
    assert doors.is_allowed_origin("https://dash.example", "127.0.0.1")
    assert not doors.is_allowed_origin("http://dash.example", "127.0.0.1")


# health


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (FeedState(None, {}, {}, {}), "degraded"),
        (FeedState(3.0, {("t", 0): 5}, {("t", 0): 7}, {}), "ok"),
        (FeedState(30.0, {("t", 0): 5}, {}, {}), "degraded"),
        (FeedState(3.0, {}, {}, {}), "degraded"),
    ],
)
def test_kafka_is_well_when_it_has_answered_lately(state: FeedState, status: str) -> None:
    assert plan_kafka_check(state).status == status


@pytest.mark.parametrize(
    ("leases", "status"),
    [
        ([], "degraded"),
        ([LeaseRow("sink", "sink", 0.5, held=True)], "ok"),
        ([LeaseRow("sink", "sink", 9.0, held=True)], "degraded"),
        ([LeaseRow("sink", "sink", 0.5, held=False)], "degraded"),
        ([LeaseRow("bridge", "bridge", 0.5, held=True)], "degraded"),
        (
            [LeaseRow("sink-a", "sink", 0.5, held=True), LeaseRow("sink-b", "sink", 9.0, held=True)],
            "degraded",
        ),
        ([LeaseRow("sink-a", "sink", 0.5, held=True), LeaseRow("sink", "sink", 90_000.0, held=True)], "ok"),
    ],
)
def test_a_stage_is_well_when_all_its_services_beat(leases: list[LeaseRow], status: str) -> None:
    assert plan_stage_check("sink", leases, 3.0).status == status


# routes and files


@pytest.mark.parametrize(
    "levels", [("..", "secret"), ("assets", ".."), ("../secret",), ("",), ("a\0b",), (".",), ("assets",)]
)
def test_no_request_leaves_the_pages_folder(tmp_path: Path, levels: tuple[str, ...]) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    assert PageFiles(tmp_path / "dist").get(*levels) is None


def test_a_new_build_is_served_without_a_restart(tmp_path: Path) -> None:
    files = PageFiles(tmp_path)
    assert files.get("index.html") is None
    (tmp_path / "index.html").write_text("one")
    file = files.get("index.html")
    assert file is not None
    assert (file.plain, file.media_type) == (b"one", "text/html")
