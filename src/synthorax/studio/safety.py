"""Who may talk to the studio: the browser that opened its link, on this machine, from the studio's own page."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_REQUEST_BYTES = 256 * 1024
"""Most bytes of a request's body, uploads aside."""
MOST_UPLOAD_BYTES = 4 * 1024**3
"""Most bytes of one uploaded file."""
PAGES = ("/", "/reader")
"""Paths that a person opens, whose refusals are plain text."""
UPLOADS = "/api/uploads/"
"""Paths whose bodies are files."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may load: scripts and data from the studio alone. The viewer sets styles on its own elements."""
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Door:
    """The rules by which the studio lets requests in.

    Attributes:
        hosts: values of the header Host that are answered, such as 127.0.0.1:8765. A page of another site that makes
            its name point to this machine sends its own.
        cookie: name of the cookie that holds the token.
        token: that the studio's link has, and that its page sends with each request.
    """

    hosts: frozenset[str]
    cookie: str = "synthorax-studio"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @classmethod
    def of(cls, host: str, port: int) -> Door:
        """Return the rules of a studio at an address."""
        names = {host, *(("127.0.0.1", "localhost", "[::1]") if host in ("127.0.0.1", "::1", "localhost") else ())}
        return cls(frozenset(f"{name}:{port}" for name in names), f"synthorax-studio-{port}")

    def refusal(self, method: str, headers: Mapping[str, str]) -> str:
        """Return why a request is refused; empty if it is let in.

        Args:
            method: of HTTP.
            headers: by lower-case names.
        """
        host = headers.get("host", "")
        if host not in self.hosts:
            return f"the studio answers to {' or '.join(sorted(self.hosts))} alone, not to {host[:80]!r}"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] not in self.hosts:
            return "a request from another site's page"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "a request from another site's page"
        if method not in ("GET", "HEAD") and origin is None:
            return "a change that does not come from the studio's page"
        if not secrets.compare_digest(self._sent_token(headers).encode(), self.token.encode()):
            return "the studio opens by the link that `synthorax studio` prints in the terminal"
        return ""

    def _sent_token(self, headers: Mapping[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""


class Guard:
    """An ASGI application behind a door: refused requests do not reach it, and large bodies are cut off.

    Args:
        app: behind the door.
        door: the rules.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = dict(Headers(scope=scope))
        sending = _with_headers(send)
        if (link := self._entering(scope, headers)) is not None:
            await link(scope, receive, sending)
            return
        if refusal := self._door.refusal(scope["method"], headers):
            answer = PlainTextResponse(f"{refusal}\n", 403) if scope["path"] in PAGES else _error(403, refusal)
            await answer(scope, receive, sending)
            return
        is_upload = scope["path"].startswith(UPLOADS) and scope["method"] == "PUT"
        most = MOST_UPLOAD_BYTES if is_upload else MOST_REQUEST_BYTES
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > most:
            await _error(413, f"found a request of {declared[:20]} bytes; expected at most {most}")(
                scope, receive, sending
            )
            return
        await self._app(scope, _counted(receive, most), sending)

    def _entering(self, scope: Scope, headers: Mapping[str, str]) -> PlainTextResponse | RedirectResponse | None:
        """The answer to the studio's link: it leaves the token with the browser and goes on to the page."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if scope["path"] != "/" or not given or headers.get("host", "") not in self._door.hosts:
            return None
        if not secrets.compare_digest(given[0].encode(), self._door.token.encode()):
            return PlainTextResponse("This link is of an earlier studio. Use the one in the terminal.\n", 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._door.cookie, self._door.token, httponly=True, samesite="strict", path="/")
        return answer


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _with_headers(send: Send) -> Send:
    """Add the security headers to every answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message.get("headers", [])}
            added = [(n.encode(), v.encode()) for n, v in SECURITY_HEADERS.items() if n.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending


def _counted(receive: Receive, most: int) -> Receive:
    """Cut a body off at a number of bytes, whatever length it declared."""
    total = 0

    async def receiving() -> Message:
        nonlocal total
        message: Any = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise HTTPException(413, f"more than {most} bytes")
        return message

    return receiving
