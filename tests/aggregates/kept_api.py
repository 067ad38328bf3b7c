"""Two live services of one household, of which one keeps nothing, for the tests of kept answers."""

import socket
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Self

from litestar.testing import TestClient

from hl_live.app import create_app
from hl_live.chunks import Key, Part, PartCache
from hl_platform.adapters.postgres.bucket_prints import Print
from hl_platform.core.settings import load_settings
from tests.aggregates.house import House, evenly

ZONE = "Europe/Berlin"
HOUR = timedelta(hours=1)
# Closed, and still young enough to be computed from readings.
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=20)
N_DAYS = 5
_numbers = count(1)


class CountedCache(PartCache):
    """Says how many parts were found."""

    n_found = 0

    def get(self, key: Key, wanted: Print) -> Part | None:
        found = super().get(key, wanted)
        self.n_found += found is not None
        return found


class Api:
    """Two live services of one household: one keeps what it answers, the other reads everything.

    Args:
        house: its database.
        parts: where the first keeps it.
        more: further settings.
    """

    def __init__(self, house: House, parts: CountedCache | None = None, **more: str) -> None:
        self.house = house
        self.parts = CountedCache() if parts is None else parts
        self._nobody = socket.socket()
        # Bound and not listening: there is no Kafka.
        self._nobody.bind(("127.0.0.1", 0))
        self.kept, self.plain = (
            self._client(house, parts, name, more)
            for parts, name in ((self.parts, "kept"), (PartCache(0), "plain"))
        )

    def _client(self, house: House, parts: PartCache, name: str, more: dict[str, str]) -> TestClient[Any]:
        env = {
            "HL_DATABASE__URL": house.url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{self._nobody.getsockname()[1]}",
            "HL_TIMEZONE": house.timezone,
            "HL_LIVE__INSTANCE": f"{name}{next(_numbers)}",
            **more,
        }
        return TestClient(create_app(load_settings(env), parts=parts), base_url="http://127.0.0.1")

    def __enter__(self) -> Self:
        self.kept.__enter__()
        self.plain.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.plain.__exit__()
        self.kept.__exit__()
        self._nobody.close()

    def ask(self, level: str = "hourly", headers: dict[str, str] | None = None, **params: Any) -> Any:  # noqa: ANN401
        """The answer of the one that keeps."""
        params = {"start": DAY.isoformat(), "end": (DAY + timedelta(days=N_DAYS)).isoformat(), **params}
        return self.kept.get(f"/api/v1/energy/{level}", params=params, headers=headers)

    def differences(self, level: str = "hourly", **params: Any) -> list[str]:  # noqa: ANN401
        """What it says otherwise, asked twice, than the one that reads, and than the view."""
        params = {
            "start": DAY.isoformat(),
            "end": (DAY + timedelta(days=N_DAYS)).isoformat(),
            "device_id": ["meter1"],
            **params,
        }
        first, again = (self.ask(level, **params) for _ in range(2))
        wanted = self.plain.get(f"/api/v1/energy/{level}", params=params)
        said = [] if first.is_success else [first.text]
        if first.content != wanted.content:
            said.append("asked first, it is another answer than without memory")
        if again.content != first.content:
            said.append("asked again, it is another answer")
        if "limit" not in params and params.get("fill") != "true":
            said += self._unlike_view(level, params, first.json()["buckets"])
        return said

    def _unlike_view(self, level: str, params: dict[str, Any], buckets: list[dict[str, Any]]) -> list[str]:
        query = (
            "select device_id, bucket, n_readings, consumption_kwh from public.energy_" + level + " "
            "where device_id = any(%s) and bucket >= %s and bucket < %s order by device_id, bucket"
        )
        wanted = self.house.execute(query, params["device_id"], params["start"], params["end"])
        found = [
            (
                one["device_id"],
                datetime.fromisoformat(one["start"]),
                one["n_readings"],
                one["consumption_kwh"],
            )
            for one in buckets
        ]
        return [] if found == wanted else [f"the view says otherwise: {set(found) ^ set(wanted)}"]


def empty(house: House) -> None:
    for table in ("public.energy_readings", "hl.counter_events", "hl.dirty"):
        house.execute(f"truncate {table}")
    for level in ("hourly", "daily", "monthly", "yearly"):
        house.execute(f"truncate materialized.energy_{level}")


def fill(house: House) -> None:
    times = [DAY + timedelta(minutes=40 * i) for i in range(N_DAYS * 36)]
    for device in ("meter1", "meter2"):
        house.writer("energy").write(device, evenly(times))
    house.drain()


def late(house: House, at: datetime, kwh: float, device: str = "meter1") -> None:
    house.writer("energy").write(device, evenly([at], first=kwh))
