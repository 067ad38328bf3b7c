"""A household with aggregates, for the tests of this folder."""

import uuid
from collections.abc import Callable, Iterator

import pytest
import structlog

from hl_platform.core.streams import Stream, parse_stream
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.streams import load_streams
from tests.aggregates.house import House
from tests.aggregates.kept_api import Api, empty, fill
from tests.servers import temporary_database

# Every kind of field that the built-in streams lack.
WORKSHOP = """
name = "workshop"
mqtt_filter = "homelab/workshop/#"
kafka_topic = "homelab.workshop"
table = "workshop_readings"
max_gap_s = 5400

[fields.water_l]
type = "integer"
kind = "counter"
required = true
jitter_share = 0

[fields.step]
type = "smallint"
kind = "state"

[fields.open]
type = "boolean"
kind = "label"

[fields.valve]
type = "boolean"
kind = "state"

[fields.level]
type = "integer"
kind = "gauge"

[fields.grade]
type = "smallint"
kind = "gauge"
"""


@pytest.fixture(autouse=True)
def quiet(own_log_configuration: None) -> None:
    """Thousands of refreshes need no line each."""
    del own_log_configuration
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))


@pytest.fixture(scope="module")
def streams() -> dict[str, Stream]:
    return {**load_streams(None), "workshop": parse_stream(WORKSHOP, "workshop.toml")}


@pytest.fixture
def new_house(database_url: str, streams: dict[str, Stream]) -> Iterator[Callable[[str], House]]:
    """Makes a household of the test's own in a time zone."""
    made: list[House] = []

    def make(timezone: str) -> House:
        made.append(House(database_url, streams, timezone))
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture
def own_house(new_house: Callable[[str], House]) -> House:
    """A household whose models the test may change."""
    return new_house("Europe/Berlin")


@pytest.fixture(scope="module")
def shared_house(postgres: EmbeddedPostgres, streams: dict[str, Stream]) -> Iterator[House]:
    with temporary_database(postgres, f"test_{uuid.uuid4().hex[:12]}") as database:
        house = House(database.url, streams)
        yield house
        house.close()


@pytest.fixture
def house(shared_house: House) -> Iterator[House]:
    """A household that the tests of a module share: each has a device of its own, and leaves no marks."""
    yield shared_house
    shared_house.execute("delete from hl.dirty")


@pytest.fixture
def device() -> str:
    return f"device-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def shared_api(shared_house: House) -> Iterator[Api]:
    with Api(shared_house) as api:
        yield api


@pytest.fixture
def api(shared_api: Api) -> Api:
    """With some days of two meters, materialized. What it keeps of the test before is of no use any more."""
    empty(shared_api.house)
    fill(shared_api.house)
    shared_api.parts.n_found = 0
    return shared_api
