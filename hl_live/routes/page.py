"""The web page: files of the build, or a word on how to build it."""

import gzip
import hashlib
import mimetypes
from pathlib import Path
from typing import Any, NamedTuple

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

DIST = Path(__file__).parents[1] / "web" / "dist"
# The build puts a hash of the content into the name of everything below assets/.
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
MIN_GZIP_BYTES = 1_024
TEXT_TYPES = ("text/", "application/json", "application/manifest+json", "image/svg+xml")

NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hl: the page is not built</title></head><body>
<h1>The page is not built yet</h1>
<p>Run <code>make page</code> in the checkout (it needs Node 20 or newer), then reload.</p>
<p>Everything else works: <a href="/docs">API</a>, <a href="/health">health</a>.</p>
</body></html>
"""


class StaticFile(NamedTuple):
    """A file as it is sent."""

    modified_ns: int
    plain: bytes
    zipped: bytes | None
    media_type: str
    etag: str


class PageFiles:
    """The files of the build, kept in memory and read again when they change.

    Args:
        folder: what the build wrote; may be missing, and may appear later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: dict[Path, StaticFile] = {}

    def get(self, *levels: str) -> StaticFile | None:
        """The file at these levels below the folder; None if there is no such file."""
        # Each level is one name, so that no request can leave the folder.
        if any(
            level in ("", ".", "..") or "/" in level or "\\" in level or "\0" in level for level in levels
        ):
            return None
        path = self._folder.joinpath(*levels)
        try:
            modified_ns = path.stat().st_mtime_ns
            cached = self._cache.get(path)
            if cached is None or cached.modified_ns != modified_ns:
                cached = self._cache[path] = _load(path, modified_ns)
        except OSError:
            return None
        return cached


def page_routes(folder: Path = DIST) -> list[HTTPRouteHandler]:
    """`/` and the files that the page asks for."""
    files = PageFiles(folder)

    @get("/", include_in_schema=False, opt={"access": "public"})
    async def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        file = files.get("index.html")
        if file is None:
            return Response(
                NOT_BUILT.encode(),
                media_type="text/html",
                headers={"Cache-Control": "no-store"},
            )
        return _answer(request, file, REVALIDATE)

    @get("/assets/{name:str}", include_in_schema=False, opt={"access": "public"})
    async def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        return _answer(request, _found(files.get("assets", name)), IMMUTABLE)

    @get("/{name:str}", include_in_schema=False, opt={"access": "public"})
    async def root_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        return _answer(request, _found(files.get(name)), REVALIDATE)

    return [index, asset, root_file]


def _found(file: StaticFile | None) -> StaticFile:
    if file is None:
        raise NotFoundException(detail="There is no such page.")
    return file


def _answer(request: Request[Any, Any, Any], file: StaticFile, cache_control: str) -> Response[bytes]:
    headers = {"Cache-Control": cache_control, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(b"", status_code=304, headers=headers)
    body = file.plain
    if file.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = file.zipped
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=file.media_type, headers=headers)


def _load(path: Path, modified_ns: int) -> StaticFile:
    plain = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    # Windows' registry aside, .js is text/javascript everywhere; a browser insists on it for modules.
    if path.suffix in (".js", ".mjs"):
        media_type = "text/javascript"
    is_text = media_type.startswith(TEXT_TYPES)
    zipped = gzip.compress(plain, mtime=0) if is_text and len(plain) >= MIN_GZIP_BYTES else None
    etag = f'"{hashlib.sha256(plain).hexdigest()[:20]}"'
    return StaticFile(modified_ns, plain, zipped, media_type, etag)
