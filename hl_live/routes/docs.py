"""The API's documentation: a page of our own, as the usual ones load their scripts from elsewhere.

The page is plain HTML made from the OpenAPI schema; a few lines of script let a reader try a request.
"""

import html
import json
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath

from hl_live.auth.access import PUBLIC
from hl_live.problems import ForbiddenError, UnauthorizedError, answer_problem
from hl_platform import __version__

ASSETS = Path(__file__).parents[1] / "docs_assets"
ASSET_TYPES = {"docs.css": "text/css", "docs.js": "text/javascript"}

DESCRIPTION = (
    "Readings of the house: the newest, the past, and by the hour. "
    "Times are ISO 8601 with offset, ranges are half-open. Errors are problem details (RFC 9457)."
)
FEED_TEXT = """
<p><code>ws://{host}/api/v1/feed</code> sends each new reading as JSON in a text frame to whoever asks for its stream;
<code>GET /api/v1/feed/events</code> sends the same as server-sent events. All messages:
<a href="/api/v1/asyncapi.json">asyncapi.json</a>.</p>
<pre>{{"type":"subscribe","streams":["energy"],"device_id":["meter1"],"fields":["power_kw"]}}    you
{{"type":"subscribed","stream":"energy",…,"positions":{{"0":123}}}}
{{"type":"data","stream":"energy","device_id":"meter1","timestamp":"…","received_at":"…","data":{{…}},
 "position":{{"partition":0,"offset":122}},"snapshot":true}}    the newest reading of each device first
{{"type":"data",…,"position":{{"partition":0,"offset":123}}}}    then what is live
{{"type":"gap","stream":"energy","missed":17}}    before the next data, when you were too slow
{{"type":"error","code":"unknown_stream","detail":"…"}}</pre>
<p>To go on after a lost connection give the next offsets in the subscription:
<code>"positions":{{"energy":{{"0":124}}}}</code>. Whoever sends <code>{{"type":"ping"}}</code> gets
<code>{{"type":"pong"}}</code>.</p>
"""


def openapi_config(*, asks: bool) -> OpenAPIConfig:
    """`/docs` for people and `/docs/openapi.json` for programs.

    Args:
        asks: whether clients must show a token.
    """
    return OpenAPIConfig(
        title="hl",
        version=__version__,
        description=DESCRIPTION,
        path="/docs",
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            exception_handlers=dict.fromkeys((UnauthorizedError, ForbiddenError), answer_without_token),
        ),
        components=Components(
            security_schemes={
                "token": SecurityScheme(
                    type="http", scheme="bearer", description="Of `hl token create`; not needed on loopback."
                ),
            }
        ),
        # An empty one: it works without as well.
        security=[{"token": []}] if asks else [{"token": []}, {}],
        render_plugins=[DocsPage(path="/"), JsonRenderPlugin(path="/openapi.json")],
    )


class DocsPage(OpenAPIRenderPlugin):
    """Renders the schema as one HTML page."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        host = html.escape(request.headers.get("host", "localhost"))
        operations = "".join(
            _operation(method, path, operation, openapi_schema)
            for path, methods in openapi_schema["paths"].items()
            for method, operation in methods.items()
            if method == "get"
        )
        return _page("", f"{operations}<h2>Feed</h2>{FEED_TEXT.format(host=host)}")

    def receive_router(self, router: Router) -> None:
        """Adds the page's own style and script, which are no secret."""

        @get("/assets/{name:str}", include_in_schema=False, opt={"access": PUBLIC})
        async def asset(name: FromPath[str]) -> Response[bytes]:
            if name not in ASSET_TYPES:
                return Response(b"", status_code=404)
            body = (ASSETS / name).read_bytes()
            return Response(body, media_type=ASSET_TYPES[name], headers={"Cache-Control": "no-cache"})

        router.register(asset)


def answer_without_token(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A problem, and for a browser a page on which a token can be given: its address bar sends none."""
    answer = answer_problem(request, error)
    if "text/html" not in request.headers.get("accept", ""):
        return answer
    # The same for everybody: it tells nothing of what is behind it.
    page = _page(str(error), "")
    return Response(
        page, status_code=answer.status_code, media_type="text/html", headers=dict(answer.headers)
    )


def _page(said: str, reference: str) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>hl API</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/docs/assets/docs.css">'
        '<script src="/docs/assets/docs.js" defer></script></head><body><main>'
        f"<h1>hl API <small>{html.escape(__version__)}</small></h1>"
        f"<p>{html.escape(DESCRIPTION)}</p>"
        '<form id="token"><label><code>token</code> <input name="token" type="password" autocomplete="off">'
        f'<small id="said">{html.escape(said)}</small></label><button>Use</button></form>'
        '<p><a href="/docs/openapi.json">openapi.json</a> · <a href="/">page</a></p>'
        f'<div id="reference">{reference}</div></main></body></html>'
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any], schema: dict[str, Any]) -> str:
    summary = html.escape(operation.get("summary") or "")
    inputs = "".join(_input(parameter) for parameter in operation.get("parameters") or [])
    # Its JSON comes first, where there are several formats.
    media_type, content = next(iter(operation["responses"]["200"]["content"].items()))
    answer = content["schema"]
    # An answer that does not end cannot be shown.
    button = "" if media_type == "text/event-stream" else "<button>Try</button>"
    shape = html.escape(json.dumps(_example(answer, schema), indent=2, ensure_ascii=False))
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> <span>{summary}</span></summary>"
        f'<form action="{html.escape(path)}">{inputs}{button}</form>'
        f"<pre hidden></pre><h3>Answer</h3><pre>{shape}</pre></details>"
    )


def _input(parameter: dict[str, Any]) -> str:
    name = html.escape(parameter["name"])
    required = " required" if parameter.get("required") else ""
    schema = (
        parameter["schema"].get("items") or (parameter["schema"].get("anyOf") or [parameter["schema"]])[0]
    )
    kind = schema.get("format") or schema.get("type")
    return (
        f"<label><code>{name}</code> <input name='{name}' placeholder='{html.escape(str(kind))}'{required}>"
        f"<small>{html.escape(parameter.get('description') or '')}</small></label>"
    )


def _example(part: dict[str, Any], schema: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """The shape of an answer, with types and descriptions in place of values."""
    if "$ref" in part:
        return _example(schema["components"]["schemas"][part["$ref"].rpartition("/")[2]], schema)
    if "oneOf" in part:
        shapes = [_example(one, schema) for one in part["oneOf"]]
        texts = [shape for shape in shapes if shape != "null"]
        text = texts[0] if texts else "null"
        about = part.get("description")
        return f"{text}: {about}" if about and isinstance(text, str) else text
    if "properties" in part:
        return {name: _example(value, schema) for name, value in part["properties"].items()}
    if part.get("type") == "array":
        return [_example(part["items"], schema)]
    if isinstance(part.get("additionalProperties"), dict):
        return {"…": _example(part["additionalProperties"], schema)}
    text = str(part.get("format") or part.get("type") or "any")
    return f"{text}: {part['description']}" if part.get("description") else text
