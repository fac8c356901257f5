"""What a scheme gives: a way to fetch, and what was fetched, which is then on every request."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

from fastgw.plan.credentials import Credential

SCHEMES = {
    "aws": "fastgw.upstream.auth.aws",
    "google": "fastgw.upstream.auth.google",
    "azure_ad": "fastgw.upstream.auth.azure_ad",
    "ibm": "fastgw.upstream.auth.ibm",
}
MAX_TOKEN = 16 * 1024


class AuthError(Exception):
    """Why a credential cannot be had. The message goes to callers and to the log: it holds no secret, and no body."""


class Proof(Protocol):
    """What makes a request ours. `secret` is the part of it that no caller may see, b"" when there is none."""

    secret: bytes

    def sign(self, head: bytes, body: bytes) -> bytes:
        """The request head with the headers that prove it; neither `head` nor `body` may change afterwards."""


class Fresh(NamedTuple):
    """A proof just fetched; it holds for `life` seconds from now, or, when that is None, until further notice."""

    proof: Proof
    life: float | None


Fetch = Callable[[], Fresh]
"""Blocks, for a bounded time; raises AuthError. Whatever else it raises counts as a failure too, by its type's name."""


class Bearer:
    """A token in `authorization` (RFC 6750 section 2.1). Raises AuthError for one that fits in no header."""

    __slots__ = ("_end", "secret")

    def __init__(self, token: object) -> None:
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token or not token:
            raise AuthError("the answer held no usable token")
        if len(token) > MAX_TOKEN:
            raise AuthError(f"the token is longer than {MAX_TOKEN} bytes")
        self.secret = token.encode()
        self._end = b"authorization: Bearer %b\r\n\r\n" % self.secret

    def sign(self, head: bytes, body: bytes) -> bytes:
        """See `Proof.sign`."""
        return head[:-2] + self._end


def life_of(seconds: object) -> float:
    """`expires_in` as a number: some send it as text (RFC 6749 section 5.1 has a number). Raises AuthError."""
    try:
        life = float(seconds)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise AuthError("the answer does not say how long its token holds") from None
    if not 0 < life < 10**9:
        raise AuthError("the token it gave has expired already")
    return life


def fetcher(credential: Credential) -> Fetch:
    """How to fetch for this credential; loads the scheme, so not to be called on the loop. Raises AuthError."""
    scheme = import_module(SCHEMES[str(credential.__struct_config__.tag)])
    fetch: Fetch = scheme.fetcher(credential)
    return fetch
