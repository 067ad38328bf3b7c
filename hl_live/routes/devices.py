"""`/api/v1/devices`: who reports, and who has fallen silent."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from hl_live.auth.access import ANY, grant_of
from hl_live.params import operation_of, read_params
from hl_live.problems import PROBLEMS
from hl_live.service import LiveService
from hl_platform.adapters.postgres.presence import Presence
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream


class DeviceView(msgspec.Struct, frozen=True):
    """A device of one stream."""

    stream: str
    device_id: str
    last_seen: Annotated[datetime, Meta(description="The newest reading's own time")]
    age_s: Annotated[float, Meta(description="Seconds since `last_seen`")]
    silent: Annotated[bool, Meta(description="For longer than the stream's `max_gap_s`")]
    online: Annotated[
        bool | None,
        Meta(
            description="As the device's status topic says, also by its last will; null where it tells nothing"
        ),
    ]
    online_since: Annotated[datetime | None, Meta(description="When it said so first")]


class DevicesAnswer(msgspec.Struct, frozen=True):
    """Every device that ever reported, by stream and name, as far as it may be seen."""

    devices: list[DeviceView]


def devices_route(live: LiveService) -> HTTPRouteHandler:
    """All devices of all streams, from memory."""

    @get(
        "/api/v1/devices",
        tags=["streams"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="Every device, and when it was last seen",
        opt={"access": ANY},
    )
    async def devices(request: Request[Any, Any, Any]) -> DevicesAnswer:
        read_params(request.query_params.dict(), ())
        grant, now = grant_of(request), datetime.now(UTC)
        present = await live.presence.read()
        found = []
        for name, stream in live.streams.items():
            if not grant.may_read(name):
                continue
            covered = grant.devices(name)
            readings = await live.latest(stream, None if covered is None else sorted(covered))
            found += [_view(stream, one, present.get((name, one.device_id)), now) for one in readings]
        return DevicesAnswer(found)

    return devices


def _view(stream: Stream, reading: Reading, presence: Presence | None, now: datetime) -> DeviceView:
    age_s = (now - reading.timestamp).total_seconds()
    return DeviceView(
        stream=stream.name,
        device_id=reading.device_id,
        last_seen=reading.timestamp,
        age_s=round(age_s, 3),
        silent=age_s > stream.max_gap_s,
        online=presence.online if presence else None,
        online_since=presence.since if presence else None,
    )
