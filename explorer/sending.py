"""How answers are sent: large ones in pieces, and none to a client that has stopped reading.

A server that writes a whole file at once keeps it in memory until the client has read it. `Pieces`
waits after each piece until the connection has taken it. `PatientProtocol` cuts a connection off
that takes less than a third of the kernel's buffer in a while, and one whose request does not end.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

PIECE = 64 << 10  # bytes that are written at once
KERNEL_BYTES = 256 << 10  # of a connection's buffer; Linux takes twice as many
PATIENCE_S = 60.0  # seconds in which a client has to take a third of the kernel's buffer
REQUEST_S = 10.0  # seconds in which a request has to arrive; the largest body has 16 KiB


class Pieces(Response):
    """A body that is sent in pieces.

    done: called once, when the body has been sent or the client is gone.
    """

    def __init__(self, content: bytes, done: Callable[[], None], **more: Any) -> None:
        super().__init__(content, **more)
        self.done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        try:
            await send({"type": "http.response.start"} | head)
            for start in range(0, len(self.body), PIECE):
                piece = bytes(self.body[start : start + PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.done()


class PatientProtocol(H11Protocol):
    """HTTP, with an end for a connection whose buffer does not empty within `patience_s`, or whose
    request is not whole after `request_s`. uvicorn waits for ever for the first request, and for
    one that has begun, before any token is seen.
    """

    patience_s, request_s = PATIENCE_S, REQUEST_S
    _end: asyncio.TimerHandle | None = None
    _request_end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._request_end = self.loop.call_later(self.request_s, transport.abort)
        # asyncio then calls `pause_writing` as soon as a byte waits, and `resume_writing` when none
        # does.
        transport.set_write_buffer_limits(0)
        # The kernel reports room when a third of its send buffer is free. With a small buffer it
        # reports after fewer bytes.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_end()
        self._cancel_request_end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # cancels the timer of uvicorn for idle connections
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # the request is whole
            self._cancel_request_end()
        elif self._request_end is None:
            self._request_end = self.loop.call_later(self.request_s, self.transport.abort)

    def pause_writing(self) -> None:
        self._cancel_end()
        self._end = self.loop.call_later(self.patience_s, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._cancel_end()
        super().resume_writing()

    def _cancel_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = None

    def _cancel_request_end(self) -> None:
        if self._request_end is not None:
            self._request_end.cancel()
        self._request_end = None
