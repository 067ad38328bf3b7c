"""The same small application for both ASGI servers: a JSON answer, and a fan-out through a queue per client."""

import asyncio
from typing import Any

from litestar import Litestar, WebSocket, get, websocket

READING = {
    "device_id": "meter1",
    "timestamp": "2026-01-03T16:00:00Z",
    "age_s": 0.8,
    "received_at": "2026-01-03T16:00:00.004Z",
    "data": {"total_energy_kwh": 12.45, "power_kw": 3.2, "voltage": 230.0, "current": 13.9},
    "extra": None,
}
FRAME = (
    '{"type":"data","stream":"energy","device_id":"meter1","timestamp":"2026-01-03T16:00:00Z",'
    '"received_at":"2026-01-03T16:00:00.004Z","data":{"total_energy_kwh":12.45,"power_kw":3.2,'
    '"voltage":230,"current":13.9},"position":{"partition":0,"offset":123}}'
)
# So many frames may wait for a client before the fan-out pauses for it.
QUEUED = 200

queues: list["asyncio.Queue[str]"] = []


@get("/latest")
async def latest() -> dict[str, object]:
    """What `/api/v1/energy/latest` answers for two meters."""
    return {"stream": "energy", "readings": [READING, READING]}


@websocket("/ws")
async def feed(socket: WebSocket[Any, Any, Any]) -> None:
    """Sends what comes into this client's queue; any message from it is a number of frames for everyone."""
    await socket.accept()
    queue: asyncio.Queue[str] = asyncio.Queue(QUEUED)
    queues.append(queue)
    sender = asyncio.create_task(_send(socket, queue))
    try:
        async for message in socket.iter_data("text"):
            for _ in range(int(message)):
                for other in queues:
                    await other.put(FRAME)
    finally:
        queues.remove(queue)
        sender.cancel()


async def _send(socket: WebSocket[Any, Any, Any], queue: "asyncio.Queue[str]") -> None:
    while True:
        await socket.send_text(await queue.get())


app = Litestar([latest, feed], openapi_config=None, logging_config=None)
