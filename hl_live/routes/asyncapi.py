"""The feed's protocol for programs, as an AsyncAPI document made from its messages."""

from typing import Any, get_args

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from hl_live.auth.access import ANY
from hl_live.feed.messages import Answer
from hl_live.feed.messages import Request as FeedRequest
from hl_live.params import operation_of, read_params
from hl_live.problems import PROBLEMS
from hl_platform import __version__

SCHEMA_REF = "#/components/schemas/{name}"


def asyncapi_route() -> HTTPRouteHandler:
    """`/api/v1/asyncapi.json`."""

    @get(
        "/api/v1/asyncapi.json",
        tags=["feed"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="The feed's messages (AsyncAPI 3)",
        opt={"access": ANY},
    )
    async def asyncapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
        read_params(request.query_params.dict(), ())
        return asyncapi_document(request.headers.get("host", "localhost"))

    return asyncapi


def asyncapi_document(host: str) -> dict[str, Any]:
    """The protocol as AsyncAPI 3.0.

    Args:
        host: under which the service was asked.

    Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
    """
    requests, answers = get_args(FeedRequest), get_args(Answer)
    _, schemas = msgspec.json.schema_components([*requests, *answers], ref_template=SCHEMA_REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hl live feed",
            "version": __version__,
            "description": "Every reading of the streams that a client asks for, or an explicit gap.",
        },
        "defaultContentType": "application/json",
        "servers": {"live": {"host": host, "protocol": "ws"}},
        "channels": {
            "feed": {
                "address": "/api/v1/feed",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"}
                    for name in map(_name_of, (*requests, *answers))
                },
            }
        },
        "operations": {
            # Seen from the service, as AsyncAPI wants it.
            "ask": {"action": "receive", **_operation(requests)},
            "tell": {"action": "send", **_operation(answers)},
        },
        "components": {
            "messages": {_name_of(kind): _message_of(kind) for kind in (*requests, *answers)},
            "schemas": schemas,
        },
    }


def _name_of(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _operation(kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    return {
        "channel": {"$ref": "#/channels/feed"},
        "messages": [{"$ref": f"#/channels/feed/messages/{_name_of(kind)}"} for kind in kinds],
    }


def _message_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": _name_of(kind),
        "summary": (kind.__doc__ or "").strip().splitlines()[0],
        "payload": {"$ref": SCHEMA_REF.format(name=kind.__name__)},
    }
