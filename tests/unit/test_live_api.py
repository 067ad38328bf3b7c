"""The application while neither Kafka nor the database is there: it comes up, answers, and says so."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

from hl_live.app import create_app
from hl_live.routes.feed_events import read_event_id, write_event_id
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings

SOLAR = """
name = "solar"
mqtt_filter = "homelab/solar/#"
kafka_topic = "homelab.solar"
table = "solar_readings"
[fields.yield_kwh]
type = "float"
kind = "counter"
unit = "kWh"
required = true
[fields.power_kw]
type = "float"
kind = "gauge"
unit = "kW"
[fields.strings_on]
type = "integer"
kind = "state"
description = "Strings that deliver"
"""

Client = TestClient[Any]


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port on which nobody listens and which nobody else will get."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def environment(port: int, **more: str) -> dict[str, str]:
    return {
        "HL_DATABASE__URL": f"postgresql://hl:x@127.0.0.1:{port}/hl",
        "HL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        **more,
    }


@pytest.fixture(scope="module")
def client(closed_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "streams").mkdir()
    (folder / "streams" / "solar.toml").write_text(SOLAR)
    settings = load_settings(environment(closed_port, HL_STREAMS_DIR=str(folder / "streams")))
    app = create_app(settings, page_folder=folder / "dist")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_latest_without_a_database_is_a_503_and_no_empty_list(client: Client) -> None:
    answer = client.get("/api/v1/energy/latest")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1
    assert "readings" not in answer.json()


def test_health_says_what_is_away(client: Client) -> None:
    health = client.get("/health").json()
    assert health["status"] == "degraded"
    assert {name for name, check in health["checks"].items() if check["status"] == "degraded"} == {
        "bridge",
        "database",
        "kafka",
        "sink",
    }


def test_instance_without_its_servers_is_not_ready_and_says_why(client: Client) -> None:
    answer = client.get("/health/ready")
    checks = {name: check["status"] for name, check in answer.json()["checks"].items()}
    assert answer.status_code == 503
    assert checks == {"reader": "ok", "kafka": "degraded", "database": "degraded"}
    assert client.get("/health/live").status_code == 200


def test_metrics_are_told_without_the_servers(client: Client) -> None:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    assert 'hl_dependency_up{dependency="database"} 0.0' in answer.text
    assert "hl_feed_clients 0.0" in answer.text


def test_the_pipeline_without_a_database_is_a_503(client: Client) -> None:
    assert client.get("/api/v1/pipeline").status_code == 503


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/v1/energy/latest?device=meter1", "device"),
        ("/api/v1/energy/raw", "start"),
        ("/api/v1/energy/raw?start=2026-01-03T16:00:00Z&end=nonsense", "end"),
        ("/api/v1/energy/raw?start=2026-01-03T16:00:00Z&end=2026-01-03T15:00:00Z", "end"),
        ("/api/v1/energy/hourly?start=2026-01-03&end=2027-01-05", "end"),
        ("/api/v1/energy/minutely?start=2026-01-03&end=2026-01-06", "end"),
        ("/api/v1/energy/daily?start=2026-01-03&end=2026-01-32", "end"),
        ("/api/v1/energy/daily?start=2026-01-03&end=2026-01-31&fields=power_kw_area", "fields"),
        ("/api/v1/energy/daily?start=2026-01-03&end=2026-01-31&fill=true", "fill"),
        ("/api/v1/energy/daily?start=2026-01-03&end=2026-01-31&after=meter1", "after"),
        ("/api/v1/energy/cost?start=2026-01-03&end=2026-01-31&per=year", "per"),
        ("/api/v1/energy/series?start=2026-01-03&end=2026-01-31&points=0", "points"),
        ("/api/v1/streams?x=1", "x"),
        ("/api/v1/dead-letters?stream=gas", "stream"),
        ("/api/v1/dead-letters?state=old", "state"),
        ("/api/v1/dead-letters?limit=1001", "limit"),
        ("/api/v1/dead-letters?before=99999999999999999999", "before"),
        ("/api/v1/dead-letters?fingerprint=%00", "fingerprint"),
        ("/api/v1/dead-letters?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
        ("/health?x=1", "x"),
    ],
)
def test_a_bad_parameter_is_a_problem_that_names_it(client: Client, path: str, parameter: str) -> None:
    answer = client.get(path)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (problem["status"], problem["parameter"]) == (400, parameter)
    assert problem["allowed"]


@pytest.mark.parametrize(
    "path",
    ["/api/v1/gas/latest", "/api/v1/gas", "/api/v1/energy/nothing", "/nothing", "/assets/x.js", "/a/b/c"],
)
def test_what_is_not_there_is_a_404_problem(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_request_for_another_host_is_refused(client: Client) -> None:
    assert client.get("/api/v1/streams", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/api/v1/streams", "/docs", "/nothing", "/api/v1/energy/raw"])
def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_without_a_build_the_page_says_how_to_make_one(client: Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, "make page" in answer.text) == (200, True)


def test_a_declared_stream_is_served_without_python(client: Client) -> None:
    streams = {stream["name"]: stream for stream in client.get("/api/v1/streams").json()["streams"]}
    assert [field["name"] for field in streams["solar"]["fields"]] == ["yield_kwh", "power_kw", "strings_on"]
    schema = client.get("/docs/openapi.json").json()
    assert {path for path in schema["paths"] if "solar" in path} == {
        f"/api/v1/solar/{name}"
        for name in ("latest", "raw", "minutely", "hourly", "daily", "monthly", "yearly", "series")
    }
    properties = schema["components"]["schemas"]["SolarData"]["properties"]
    assert properties["strings_on"]["description"] == "Strings that deliver"


def test_openapi_describes_parameters_answers_and_problems(client: Client) -> None:
    operation = client.get("/docs/openapi.json").json()["paths"]["/api/v1/energy/raw"]["get"]
    required = {parameter["name"] for parameter in operation["parameters"] if parameter["required"]}
    optional = {parameter["name"] for parameter in operation["parameters"]} - required
    assert required == {"start", "end"}
    assert optional == {"device_id", "fields", "tz", "limit", "after"}
    statuses = {"200", "304", "400", "401", "403", "406", "429", "503"}
    assert operation["responses"].keys() == statuses
    assert all("RateLimit" in answer["headers"] for answer in operation["responses"].values())
    assert operation["responses"]["200"]["content"].keys() == {
        *("application/json", "text/csv", "application/vnd.apache.parquet")
    }


def test_openapi_describes_the_buckets_of_a_stream(client: Client) -> None:
    schemas = client.get("/docs/openapi.json").json()["components"]["schemas"]
    properties = schemas["SolarBucket"]["properties"]
    assert {"yield_kwh_moved", "power_kw_mean", "strings_on_seconds", "coverage"} <= properties.keys()
    assert not [name for name in properties if name.endswith(("_area", "_sum", "_count"))]
    assert properties["power_kw_max"]["description"] == "power_kw: greatest (kW)"


@pytest.mark.parametrize("level", ["minutely", "hourly", "daily", "monthly", "yearly", "series"])
def test_openapi_describes_the_tag_of_an_answer(client: Client, level: str) -> None:
    paths = client.get("/docs/openapi.json").json()["paths"]
    responses = paths[f"/api/v1/solar/{level}"]["get"]["responses"]
    assert "If-None-Match" in responses["304"]["description"]
    assert {"ETag", "Cache-Control"} <= {name.removeprefix("x-") for name in responses["200"]["headers"]}


def test_openapi_describes_the_dead_letters(client: Client) -> None:
    schema = client.get("/docs/openapi.json").json()
    operation = schema["paths"]["/api/v1/dead-letters"]["get"]
    assert "fingerprint" in {parameter["name"] for parameter in operation["parameters"]}
    assert "preview" in schema["components"]["schemas"]["Entry"]["properties"]


def test_the_documentation_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/docs").text
    assert "://" not in page.replace("ws://", "")
    assert client.get("/docs/assets/docs.js").status_code == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/ws/gas", "unknown_stream"),
        ("/ws/energy?device_id=a%2Fb", "bad_parameter"),
        ("/ws/energy?since=1", "bad_parameter"),
    ],
)
def test_a_feed_that_cannot_be_says_why_and_closes(client: Client, path: str, code: str) -> None:
    with client.websocket_connect(path) as socket:
        assert socket.receive_json()["code"] == code
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


@pytest.mark.parametrize("path", ["/ws/energy", "/api/v1/feed"])
def test_a_page_from_elsewhere_cannot_open_the_feed(client: Client, path: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(path, headers={"Origin": "http://evil.example"}),
    ):
        pass


def test_the_feed_confirms_and_answers_pings(client: Client) -> None:
    with client.websocket_connect("/api/v1/feed") as socket:
        socket.send_json({"type": "subscribe", "streams": ["energy"], "device_id": ["b", "a"]})
        assert socket.receive_json() == {
            "type": "subscribed",
            "stream": "energy",
            "device_id": ["a", "b"],
            "fields": None,
            "mode": "all",
            "max_hz": None,
            "resumed": False,
            "complete": False,
            "positions": {},
        }
        socket.send_json({"type": "ping"})
        assert socket.receive_json() == {"type": "pong"}


def test_a_stream_has_its_own_address_too(client: Client) -> None:
    with client.websocket_connect("/ws/energy?device_id=b&device_id=a") as socket:
        answer = socket.receive_json()
        assert (answer["type"], answer["stream"], answer["device_id"]) == ("subscribed", "energy", ["a", "b"])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"type": "publish"}, "bad_message"),
        ({"type": "subscribe", "streams": ["energy"], "device": "a"}, "bad_message"),
        ({"type": "subscribe", "streams": []}, "bad_message"),
        ({"type": "subscribe", "streams": ["energy"], "max_hz": 0}, "bad_message"),
        ({"type": "subscribe", "streams": ["energy"], "positions": {"energy": {"x": 1}}}, "bad_message"),
        ({"type": "subscribe", "streams": ["gas"]}, "unknown_stream"),
        ({"type": "subscribe", "streams": ["energy"], "device_id": ["a/b"]}, "bad_parameter"),
        ({"type": "subscribe", "streams": ["energy"], "fields": ["mode"]}, "bad_parameter"),
        ({"type": "unsubscribe", "streams": ["energy"]}, "not_subscribed"),
        (["no", "object"], "bad_message"),
    ],
)
def test_what_cannot_be_asked_is_answered_and_closes_nothing(
    client: Client, request_: object, code: str
) -> None:
    with client.websocket_connect("/api/v1/feed") as socket:
        socket.send_json(request_)
        answer = socket.receive_json()
        assert (answer["type"], answer["code"]) == ("error", code)
        socket.send_json({"type": "ping"})
        assert socket.receive_json() == {"type": "pong"}


def test_a_message_that_is_no_text_ends_the_connection(client: Client) -> None:
    with client.websocket_connect("/api/v1/feed") as socket:
        socket.send_bytes(b"\x00")
        assert socket.receive_json()["code"] == "bad_message"
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_after_unsubscribing_the_stream_can_be_asked_for_again(client: Client) -> None:
    with client.websocket_connect("/api/v1/feed") as socket:
        for _ in range(2):
            socket.send_json({"type": "subscribe", "streams": ["energy", "heatpump"]})
            assert [socket.receive_json()["type"] for _ in range(2)] == ["subscribed"] * 2
            socket.send_json({"type": "unsubscribe", "streams": ["energy"]})
            assert socket.receive_json() == {"type": "unsubscribed", "stream": "energy"}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("stream=gas", "stream"),
        ("", "stream"),
        ("stream=energy&fields=mode", "fields"),
        ("stream=energy&max_hz=0", "max_hz"),
        ("stream=energy&mode=some", "mode"),
        ("stream=energy&device_id=a%2Fb", "device_id"),
        ("stream=energy&last_event_id=x", "last_event_id"),
    ],
)
def test_events_that_cannot_be_are_a_bad_request(client: Client, query: str, parameter: str) -> None:
    answer = client.get(f"/api/v1/feed/events?{query}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_an_event_id_is_read_as_it_was_written() -> None:
    positions = {"energy": {0: 17, 12: 5}, "heat_pump": {1: 2**50}}
    assert read_event_id(write_event_id(positions)) == positions


def test_every_message_of_the_feed_is_described(client: Client) -> None:
    document = client.get("/api/v1/asyncapi.json").json()
    described = document["channels"]["feed"]["messages"].keys()
    assert described == {
        *("subscribe", "unsubscribe", "ping"),
        *("data", "subscribed", "unsubscribed", "positions", "gap", "error", "pong"),
    }
    schemas = document["components"]["schemas"]
    for message in document["components"]["messages"].values():
        schema = schemas[message["payload"]["$ref"].rpartition("/")[2]]
        assert schema["properties"]["type"]["enum"] == [message["name"]]


def test_clients_beyond_the_limit_are_told_to_come_back(closed_port: int, tmp_path: Path) -> None:
    settings = load_settings(environment(closed_port, HL_LIVE__MAX_CLIENTS="1"))
    with (
        TestClient(create_app(settings, tmp_path), base_url="http://127.0.0.1") as client,
        client.websocket_connect("/api/v1/feed") as first,
    ):
        first.send_json({"type": "ping"})
        first.receive_json()
        with client.websocket_connect("/api/v1/feed") as second:
            assert second.receive_json()["code"] == "too_many_clients"


def test_a_build_is_served_with_the_right_caching(closed_port: int, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "assets" / "index-abc.js").write_text("x" * 5000)
    settings = load_settings(environment(closed_port))
    with TestClient(create_app(settings, tmp_path), base_url="http://127.0.0.1") as client:
        page, script = client.get("/"), client.get("/assets/index-abc.js")
        again = client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (page.text, page.headers["cache-control"]) == ("<p>page</p>", "no-cache")
    assert "immutable" in script.headers["cache-control"]
    assert (script.headers["content-encoding"], script.text) == ("gzip", "x" * 5000)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [("HL_DATABASE__URL", None), ("HL_KAFKA__BOOTSTRAP_SERVERS", None)],
)
def test_a_service_that_cannot_be_right_does_not_start(
    closed_port: int, name: str, value: str | None
) -> None:
    env = environment(closed_port)
    if value is None:
        del env[name]
    else:
        env[name] = value
    with pytest.raises(ConfigError, match=name):
        create_app(load_settings(env))
