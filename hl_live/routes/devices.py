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


class DeviceView(msgspec.Struct, frozen=True):
    """A device of one stream."""

    stream: str
    device_id: str
    last_seen: Annotated[datetime, Meta(description="The newest reading's own time")]
    age_s: Annotated[float, Meta(description="Seconds since `last_seen`")]
    silent: Annotated[bool, Meta(description="For longer than the stream's `max_gap_s`")]


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
        found = []
        for name, stream in live.streams.items():
            if not grant.may_read(name):
                continue
            covered = grant.devices(name)
            for reading in await live.latest(stream, None if covered is None else sorted(covered)):
                age_s = (now - reading.timestamp).total_seconds()
                silent = age_s > stream.max_gap_s
                found.append(DeviceView(name, reading.device_id, reading.timestamp, round(age_s, 3), silent))
        return DevicesAnswer(found)

    return devices
