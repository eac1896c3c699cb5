"""`Guard`: what every request has to pass before a route sees it, and the headers of every answer.

On this machine's own address, only requests to that address are answered, so that a foreign page
cannot reach the server by a name of its own (DNS rebinding). On any other address a token is
needed: the printed link holds it, and the first answer puts it into a cookie.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dnnlib.names import printable

LOCAL = ("127.0.0.1", "localhost", "::1")
POLICY = (  # of the page, with a server or without
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_local(host: str) -> bool:
    """Whether a server on this address is reached from this machine only."""
    return host in LOCAL


def refusal(status: int, sentence: str, **headers: str) -> JSONResponse:
    """An answer with an error that the page shows as it is."""
    fields = {"Cache-Control": "no-store"} | {k.replace("_", "-"): v for k, v in headers.items()}
    # A sentence may quote half of a surrogate pair from a request, which UTF-8 cannot hold.
    return JSONResponse({"error": printable(sentence)}, status, fields)


class Guard:
    """token: None where the server listens on this machine only. cookie: the cookie's name."""

    def __init__(self, app: ASGIApp, token: str | None, cookie: str = "explorer") -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer(scope) or self.app
        await answer(scope, receive, with_headers)

    def _answer(self, scope: Scope) -> ASGIApp | None:
        """The answer to a request that goes no further; None where it may pass."""
        headers = Headers(scope=scope)
        if self.token is None:
            host = headers.get("host", "").rsplit(":", 1)[0]
            if host.strip("[]") not in LOCAL:
                return refusal(421, "this server answers on 127.0.0.1 and localhost only")
            return None
        given = Request(scope).query_params.get("token")
        if given is not None and self._fits(given):
            response = RedirectResponse(scope["path"], 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
            return response
        if given is None and self._fits(self._in_cookie(headers)):
            return None
        return refusal(401, "open the link with its token that explore.py has printed")

    def _in_cookie(self, headers: Headers) -> str:
        try:
            token = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return token.value if token else ""

    def _fits(self, given: str) -> bool:
        """In a time that does not depend on how much of the token is right."""
        return secrets.compare_digest(given.encode(), (self.token or "").encode())
