"""A client of the live feed, for a person who looks. What the feed's protocol is, is known here only."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from hl_platform.core.errors import ConfigError, HlError, TransientError
from hl_platform.core.live_sections import LiveSettings

# Frames that wait here; beyond it the feed's own queue keeps them, and then tells of a gap.
MAX_WAITING = 64
CLOSE_S = 1.0
REFUSED = (401, 403)
FOR_GOOD = ("unknown_stream", "bad_parameter", "forbidden")


class FeedConnection:
    """An open feed; made by `open_feed`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def poll(self, timeout_s: float) -> dict[str, Any] | None:
        """The next frame, `data` or `gap`; None when it is another, or there is none within the time.

        Raises:
            TransientError: the service has gone.
        """
        try:
            frame: dict[str, Any] = msgspec.json.decode(self._socket.recv(timeout_s))
        except TimeoutError:
            return None
        except ConnectionClosed as exc:
            raise TransientError(f"the live service has closed the feed ({exc})") from exc
        return frame if frame["type"] in ("data", "gap") else None


@contextmanager
def open_feed(
    live: LiveSettings, stream: str, device_id: str | None, timeout_s: float
) -> Iterator[FeedConnection]:
    """Readings of one stream from now on, as a browser gets them.

    This is the one place to change when the protocol does.

    Args:
        live: where the live service is.
        stream: whose readings.
        device_id: only of this device; None for all.
        timeout_s: for the service to answer, in seconds.

    Raises:
        TransientError: the service does not answer, or takes no more clients.
        ConfigError: it does not know the stream, or asks for a token, or for another one.
    """
    url = f"ws://{live_address(live)}/api/v1/feed"
    try:
        # Left by `close` below: only what goes wrong before it is open is a service that does not answer.
        socket = connect(
            url,
            open_timeout=timeout_s,
            close_timeout=CLOSE_S,
            compression=None,
            max_queue=MAX_WAITING,
            proxy=None,
            additional_headers=token_headers(live),
        ).__enter__()
    except InvalidStatus as exc:
        raise _refusal(live, exc.response.status_code) from exc
    except (OSError, WebSocketException) as exc:
        raise TransientError(f"no live service answers at {live_address(live)} ({exc})") from exc
    try:
        _subscribe(socket, stream, device_id)
        _check_first(live, _first_frame(live, socket, timeout_s))
        yield FeedConnection(socket)
    finally:
        socket.close()


def token_headers(live: LiveSettings) -> dict[str, str]:
    """What shows the live service the token of the settings; nothing where there is none."""
    return {} if live.token is None else {"Authorization": f"Bearer {live.token}"}


def live_address(live: LiveSettings) -> str:
    """Host and port of the live service, as a url has them."""
    return f"{f'[{live.host}]' if ':' in live.host else live.host}:{live.port}"


def _subscribe(socket: ClientConnection, stream: str, device_id: str | None) -> None:
    wanted: dict[str, object] = {"type": "subscribe", "streams": [stream], "snapshot": False}
    if device_id is not None:
        wanted["device_id"] = [device_id]
    # That the service closes at once, and why, is in its first frame.
    with suppress(ConnectionClosed):
        socket.send(msgspec.json.encode(wanted).decode())


def _first_frame(live: LiveSettings, socket: ClientConnection, timeout_s: float) -> dict[str, Any]:
    try:
        frame: dict[str, Any] = msgspec.json.decode(socket.recv(timeout_s))
    except (TimeoutError, ConnectionClosed) as exc:
        raise TransientError(f"the live service at {live_address(live)} does not speak ({exc})") from exc
    return frame


def _check_first(live: LiveSettings, frame: dict[str, Any]) -> None:
    if frame["type"] == "subscribed":
        return
    kind = ConfigError if frame.get("code") in FOR_GOOD else TransientError
    raise kind(f"the live service at {live_address(live)} refuses: {frame.get('detail', frame)}")


def _refusal(live: LiveSettings, status: int) -> HlError:
    where = f"the live service at {live_address(live)}"
    if status not in REFUSED:
        return TransientError(f"{where} answers with status {status}")
    asked = "refuses the token of HL_LIVE__TOKEN" if live.token is not None else "asks for a token"
    return ConfigError(
        f"{where} {asked}. Make one with `hl token create --name commands --scope read:*` and set HL_LIVE__TOKEN."
    )
