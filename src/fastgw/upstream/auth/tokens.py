"""Asking a token endpoint (RFC 6749) over blocking HTTP, for the thread that fetches.

A proxy is that of the environment (`HTTPS_PROXY`, `NO_PROXY`), and so are the certificate authorities
(`SSL_CERT_FILE`); redirects are not followed, since a credential would go along.
"""

import json
import re
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from fastgw.upstream.auth.base import AuthError, Bearer, Fresh, life_of

TIMEOUT_S = 10.0
MAX_ANSWER = 256 * 1024
CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
CODES = ("error", "errorCode", "code")
"""Where an error's stable name stands; the texts beside it may quote what was sent."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


def post(url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that `url` answers to a form. Raises AuthError."""
    request = Request(url, urlencode(form).encode(), {"accept": "application/json"})  # noqa: S310 - checked by compile
    return _ask(request, build_opener(_NoRedirect), frozenset(form.values()))


def get(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object at `url`, which is on this machine or link: no proxy is used. Raises AuthError."""
    request = Request(url, headers=dict(headers))  # noqa: S310 - a fixed address, or the platform's own variable
    return _ask(request, build_opener(ProxyHandler({}), _NoRedirect), frozenset(headers.values()))


def granted(answer: Mapping[str, Any]) -> Fresh:
    """The token in an answer. Raises AuthError."""
    return Fresh(Bearer(answer.get("access_token")), life_of(answer.get("expires_in")))


def renewing(ask: Callable[[], Mapping[str, Any]]) -> Callable[[], Fresh]:
    """A `Fetch` that asks anew each time."""
    return lambda: granted(ask())


def _ask(request: Request, opener: OpenerDirector, sent: frozenset[str]) -> dict[str, Any]:
    host = urlsplit(request.full_url).netloc
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            body = answer.read(MAX_ANSWER)
    except HTTPError as error:
        with error:
            raise AuthError(f"{host} answered {error.code}{_code(error.read(MAX_ANSWER), sent)}") from None
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise AuthError(f"{host} could not be asked ({type(reason).__name__})") from None
    found = _object(body)
    if found is None:
        raise AuthError(f"{host} answered with something that is no JSON object")
    return found


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _code(body: bytes, sent: frozenset[str]) -> str:
    """The error's name, with a space before it, unless it is a word of our own request that came back."""
    found = _object(body) or {}
    codes = (found.get(name) for name in CODES)
    known = (code for code in codes if isinstance(code, str) and CODE.fullmatch(code) and code not in sent)
    return "".join(f" {code}" for code in list(known)[:1])
