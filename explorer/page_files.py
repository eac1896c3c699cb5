"""The files of the page: our own in `page/`, and Leaflet from the package xstatic-leaflet."""

from __future__ import annotations

import functools
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
LEAFLET = ("leaflet.js", "leaflet.css")


@functools.cache
def files() -> dict[str, tuple[bytes, str]]:
    """(bytes, media type) of each file, by the name in its address. Read once."""
    from xstatic.pkg import leaflet

    ours = Path(__file__).with_name("page")
    paths = [path for path in sorted(ours.iterdir()) if path.suffix in TYPES]
    paths += [Path(leaflet.BASE_DIR) / name for name in LEAFLET]
    return {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in paths}


def answer(name: str) -> Response:
    """The file of this name. Raises `HTTPException` where there is none."""
    if name not in files():
        raise HTTPException(404, "the page has no such file")
    data, media_type = files()[name]
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-cache"})
