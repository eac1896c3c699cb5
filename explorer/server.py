"""The routes of the explorer. Every error is a sentence in JSON that the page shows.

GET /                                      the page, whose files lie under /page/
GET /options                               networks, runs and limits
POST /pictures                             a `PictureState` -> its name
GET /tile/{picture}/{z}/{x}/{y}.png        a tile (`explorer.tiles`)
GET /preview/{picture}.png?window=&size=   a small picture of what is seen
GET /download/{picture}.png?window=&size=  the file that generate.py would write
GET /command/{picture}?window=&size=       its command line
GET /runs/curves?run=, /runs/grid.png?run=&name=   the panel of a run
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from dnnlib.errors import UserError
from explorer import page_files, tiles, training_runs
from explorer.bounded import Budget, ByteCache, Rates
from explorer.catalog import Catalog
from explorer.guard import refusal
from explorer.painter import Painter, Picture
from explorer.sending import Pieces
from explorer.state import (
    MAX_DOWNLOAD_PX,
    MAX_PREVIEW_PX,
    MAX_PROMPT,
    WARPS,
    PictureState,
)
from explorer.tiles import Tile, requested_part
from explorer.worker import Busy, Worker
from networks.coordinates import check_picture_size
from networks.picture_names import picture_names

MAX_BODY = 16 << 10  # bytes of a request
BODY_S = 10.0  # seconds in which it has to arrive
NUM_TILES, NUM_DOWNLOADS = 256, 2  # jobs that may wait
DOWNLOADS_BYTES = 192 << 20  # of pixels, from the request to the last byte that is sent
PICTURES_BYTES = 8 << 20  # of states, some thousand bytes each at most
DAY = "private, max-age=86400"  # the name of a picture is a hash, so its tiles never change


class TooMany(Exception):
    """A client asks more often than it may."""


class ClientGone(Exception):
    """The client has closed the connection; nobody reads the answer."""


class Explorer:
    """The state behind the routes.

    more: options that a command line of generate.py needs to draw as this process does.
    """

    def __init__(
        self, catalog: Catalog, painter: Painter, more: Mapping[str, str] | None = None
    ) -> None:
        self.catalog, self.painter, self.more = catalog, painter, dict(more or {})
        self.pictures: ByteCache[Picture] = ByteCache(PICTURES_BYTES, _size_of)
        self.tiles = Worker("tiles", NUM_TILES, painter.share)
        self.downloads = Worker("downloads", NUM_DOWNLOADS)
        self.in_flight = Budget(DOWNLOADS_BYTES)
        self.new_pictures, self.new_downloads = Rates(20, 60), Rates(1, 6)

    def warm(self) -> None:
        """Load the network that the page opens with, before anybody asks."""
        path = self.catalog.path_of(self.catalog.default)
        self.tiles.submit(lambda: self.painter.network(path))

    async def options(self, request: Request) -> Response:
        def listed() -> tuple[list[str], list[str]]:
            return list(self.catalog.networks()), list(self.catalog.runs())

        networks, runs = await asyncio.to_thread(listed)
        return JSONResponse(
            {
                "networks": networks,
                "runs": runs,
                "warps": WARPS,
                "zooms": [tiles.MIN_ZOOM, tiles.MAX_ZOOM],
                "max_prompt": MAX_PROMPT,
            }
        )

    async def register(self, request: Request) -> Response:
        if not self.new_pictures.allows(_client(request)):
            raise TooMany("too many pictures at once; wait a second and draw again")
        state = PictureState.parse(await _json(request))
        path = await asyncio.to_thread(self.catalog.path_of, state.network)
        work = self.tiles.submit(lambda: self.painter.register(state, path))
        picture, facts = await _result(request, work)
        self.pictures.put(picture.key, picture)
        return JSONResponse({"picture": picture.key} | facts)

    async def tile(self, request: Request) -> Response:
        place = request.path_params
        picture, tile = self._picture(request), Tile.parse(place["z"], place["x"], place["y"])
        data = self.painter.tiles.get((picture.key, tile))
        if data is None:
            work = self.tiles.submit(
                lambda: self.painter.tile(picture, tile),
                group=(picture.key, tile.z),
                item=(picture, tile),
            )
            data = await _result(request, work)
        return Response(data, media_type="image/png", headers={"Cache-Control": DAY})

    async def preview(self, request: Request) -> Response:
        picture, window, size = self._part(request, MAX_PREVIEW_PX)
        work = self.tiles.submit(lambda: self.painter.preview(picture, window, *size))
        data = await _result(request, work)
        return Response(data, media_type="image/png", headers={"Cache-Control": DAY})

    async def download(self, request: Request) -> Response:
        client = _client(request)
        if not self.new_downloads.allows(client):
            raise TooMany("too many downloads at once; wait a few seconds")
        picture, window, size = self._file(request)
        (name,) = picture_names([picture.state.prompt], [picture.state.seed])
        attachment = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        num_bytes = 3 * size[0] * size[1]  # of its pixels; the PNG file is rarely larger
        if not self.in_flight.take(client, num_bytes):
            raise Busy("the server is busy: other downloads are being sent; try again soon")
        with contextlib.ExitStack() as stack:
            stack.callback(self.in_flight.give, client, num_bytes)
            work = self.downloads.submit(lambda: self.painter.download(picture, window, *size))
            try:
                data = await _result(request, work)
            except ClientGone:
                if not work.cancel():  # it has begun, and holds its pixels until its end
                    loop, give = asyncio.get_running_loop(), stack.pop_all().close
                    work.add_done_callback(lambda _: loop.call_soon_threadsafe(give))
                raise
            done = stack.pop_all().close  # from here on, the answer gives the bytes back
        return Pieces(data, done, media_type="image/png", headers=attachment)

    async def command(self, request: Request) -> Response:
        picture, window, (width, height) = self._file(request)
        size = f"{width}x{height}"
        line = picture.state.command(picture.path, window, size, self.more)
        return JSONResponse({"command": line})

    async def curves(self, request: Request) -> Response:
        run = await asyncio.to_thread(self.catalog.run_of, request.query_params.get("run", ""))
        return JSONResponse(await asyncio.to_thread(training_runs.curves, run))

    async def grid(self, request: Request) -> Response:
        run = await asyncio.to_thread(self.catalog.run_of, request.query_params.get("run", ""))
        path = training_runs.grid_of(run, request.query_params.get("name", ""))
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "no-cache"})

    def _picture(self, request: Request) -> Picture:
        picture = self.pictures.get(request.path_params["picture"])
        if picture is None:
            raise HTTPException(404, "this server does not know the picture; draw it again")
        return picture

    def _part(self, request: Request, most_px: int) -> tuple[Picture, str, tuple[int, int]]:
        """Picture, window and (width, height) that a request names, checked."""
        window = request.query_params.get("window", "0,0,1,1")
        size = requested_part(window, request.query_params.get("size", ""), most_px)
        return self._picture(request), window, size

    def _file(self, request: Request) -> tuple[Picture, str, tuple[int, int]]:
        """As `_part`, for a file: what generate.py refuses is refused here, too."""
        picture, window, (width, height) = self._part(request, MAX_DOWNLOAD_PX)
        check_picture_size(width, height)
        view = picture.state.view_options(window).view()
        replace(view, width=width, height=height).check_steps()
        return picture, window, (width, height)

    def app(self) -> Starlette:
        """The routes, without `explorer.guard.Guard`."""

        async def page(request: Request) -> Response:
            return page_files.answer(request.path_params.get("file", "index.html"))

        routes = [
            Route("/", page),
            Route("/page/{file}", page),
            Route("/options", self.options),
            Route("/pictures", self.register, methods=["POST"]),
            Route("/tile/{picture}/{z}/{x}/{y}.png", self.tile),
            Route("/preview/{picture}.png", self.preview),
            Route("/download/{picture}.png", self.download),
            Route("/command/{picture}", self.command),
            Route("/runs/curves", self.curves),
            Route("/runs/grid.png", self.grid),
        ]
        return Starlette(routes=routes, exception_handlers=HANDLERS)


def _size_of(picture: Picture) -> int:
    return 1000 + 4 * sum(map(len, picture.state.prompts()))


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


async def _json(request: Request) -> Any:
    """The JSON of a request. Raises `HTTPException` for a body that is large, slow or no JSON."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise HTTPException(415, "expected a body of the type application/json")
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"the request holds more than {MAX_BODY} bytes")
        return json.loads(body)
    except TimeoutError:
        raise HTTPException(408, "the request did not arrive in time") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request holds no JSON") from None


async def _result(request: Request, work: Future[Any]) -> Any:
    """The result of a job; the job is dropped where the client goes away before it begins."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    result = asyncio.wrap_future(work)
    gone = asyncio.create_task(disconnect())
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientGone
        return result.result()
    finally:
        gone.cancel()
        if not result.done():
            result.cancel()  # cancels the job, too, where it has not begun


def _sentence(status: int, **headers: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return refusal(status, str(error), **headers)

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, sentence = error.status_code, error.detail
    if status in NO_ROUTE and sentence == HTTPStatus(status).phrase:  # Starlette's own
        sentence = NO_ROUTE[status]
    return refusal(status, sentence, **(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    return refusal(500, "the server has failed; its terminal shows why")


NO_ROUTE = {
    404: "there is nothing at this address; the page of the explorer is /",
    405: "this address does not take such a request; the page of the explorer is /",
}
HANDLERS: dict[Any, Any] = {
    UserError: _sentence(400),
    Busy: _sentence(503, Retry_After="1"),
    TooMany: _sentence(429, Retry_After="1"),
    ClientGone: _sentence(499),
    HTTPException: _http_error,
    Exception: _failed,
}
