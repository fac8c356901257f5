"""Calls from web pages: what a browser must be told before it lets a page call, or read an answer (the Fetch standard).

It stands before the application, and only where a plan has `cors`. No answer ever allows credentials: a key is sent by
the page itself, and nothing that a browser keeps opens anything here. So a page learns no more by it than any other
program with that key could.
"""

import re
from collections.abc import Awaitable
from typing import Any

from fastgw.granian_host import Application
from fastgw.plan.edge import Cors

METHODS = b"GET, POST, DELETE"
MAX_ASKED = 4096
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
Headers = list[tuple[bytes, bytes]]


class CrossOrigin:
    """An application behind which another serves: answers preflights itself and adds to the heads of all answers."""

    def __init__(self, app: Application, cors: Cors) -> None:
        self._app = app
        self._any = "*" in cors.origins
        self._origins = frozenset(origin.encode() for origin in cors.origins)
        self._headers = ", ".join(cors.headers).encode()
        self._age = b"%d" % cors.max_age

    def __call__(self, scope: dict[str, Any], proto: Any) -> Awaitable[None]:
        """One request."""
        asked = dict(scope["headers"])
        told = self.told(asked.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"origin" in asked and b"access-control-request-method" in asked:
            return _answer(proto, [*told, *self._preflight(asked, told)])
        return self._app(scope, _Adding(proto, told))

    def told(self, origin: bytes | None) -> Headers:
        """What every answer says. Caches keep answers to different pages apart where not every page may read them."""
        if self._any:
            allowed: bytes | None = b"*"
        else:
            allowed = origin if origin in self._origins else None
        vary: Headers = [] if self._any else [(b"vary", b"origin")]
        if allowed is None:
            return vary
        return [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", b"*"), *vary]

    def _preflight(self, asked: dict[bytes, bytes], told: Headers) -> Headers:
        """What the page may send; nothing to a page that may not call."""
        if not any(name == b"access-control-allow-origin" for name, _ in told):
            return []
        headers: Headers = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", self._age)]
        wanted = asked.get(b"access-control-request-headers", b"")
        if self._headers:
            headers.append((b"access-control-allow-headers", self._headers))
        elif len(wanted) <= MAX_ASKED and _NAMES.fullmatch(wanted):
            headers.append((b"access-control-allow-headers", wanted))
        return headers


class _Adding:
    """granian's side of one call, with headers added to its answer."""

    def __init__(self, proto: Any, headers: Headers) -> None:
        self.receive = proto.receive
        self._send = proto.send
        self._headers = headers

    def send(self, event: dict[str, Any]) -> Any:
        """As granian's own."""
        if event["type"] == "http.response.start":
            event = {**event, "headers": [*event["headers"], *self._headers]}
        return self._send(event)


async def _answer(proto: Any, headers: Headers) -> None:
    proto.send({"type": "http.response.start", "status": 204, "headers": [(b"server", b"fastgw"), *headers]})
    await proto.send({"type": "http.response.body", "body": b"", "more_body": False})
