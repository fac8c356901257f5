"""Request and reply headers: one strict pass over what the peer sent, and the allow-lists for what may travel on.

The pure twin of ``headers_c``: its specification, type stub and test oracle. The native module borrows the errors, the
rules' texts and the rare cold checks from here, so both twins say exactly the same.

Why so strict (RFC 9110, RFC 9112): whatever two parsers may read differently is an attack, so it is refused rather than
repaired. That is every doubt about framing (Transfer-Encoding, Content-Length), about who is asked (Host), about who is
asking (two different keys), and the underscore spelling of a header we act on, which CGI-like servers read as the
hyphenated one. Messages name the header, the rule and the fix, and never hold a value: it may be somebody's secret.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = [
    *("DEFAULT_ALLOW", "DEFAULT_NAMES", "DEFAULT_PREFIXES", "DEFAULT_REPLY_ALLOW", "REPLY_NAMES"),
    *("Allow", "HeaderError", "Raw", "Scan", "forward", "respond", "scan"),
]

TYPE_RULE: Final = "headers must be a list of (bytes, bytes) tuples"
NAME_MAX: Final = 128
KEY_MAX: Final = 512
SHOWN_MAX: Final = 64

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
NEVER: Final = HOP_BY_HOP | frozenset(
    {
        *(b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"cookie2", b"set-cookie"),
        *(b"set-cookie2", b"forwarded", b"x-real-ip", b"via", b"host", b"content-length", b"expect"),
        b"accept-encoding",
    }
)
NEVER_PREFIXES: Final = (b"proxy-", b"x-forwarded-", b"x-fastgw-")
OURS_IN_REPLIES: Final = b"x-request-id"
SINGLETONS: Final = (b"content-type", b"idempotency-key")

TWIN_NAMES: Final = frozenset(
    {
        *(b"x-api-key", b"api-key", b"x-goog-api-key", b"content-length", b"content-type", b"content-encoding"),
        *(b"transfer-encoding", b"idempotency-key", b"keep-alive", b"x-real-ip", b"x-request-id", b"set-cookie"),
    }
)
TWIN_PREFIXES: Final = (*NEVER_PREFIXES, b"x-tenant-", b"x-user-")

RULE_VALUE: Final = "has a control character in its value; send printable text"
RULE_TWIN: Final = "is the underscore spelling of a header this gateway acts on; write it with hyphens"
RULE_HOST: Final = "must be a host name or address with an optional port, as in example.com:4000"
RULE_NO_HOST: Final = "is missing; send exactly one"
RULE_TWO_HOSTS: Final = "is there more than once; send exactly one"
RULE_LENGTH: Final = "must be one decimal number of at most 18 digits; send it once"
RULE_LENGTHS: Final = "is there twice with different numbers; send it once"
RULE_CHUNKED: Final = "must be exactly 'chunked', once; use it or content-length"
RULE_FRAMING: Final = "must not come together with content-length; send one of the two"
RULE_CODING: Final = "must be 'identity'; send the body uncompressed"
RULE_DIFFERS: Final = "is there twice with different values; send it once"
RULE_IDEMPOTENCY: Final = "must be 1 to 255 printable ASCII characters; shorten or re-encode it"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[(?=[^\]]*:)[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_KEY = re.compile(rb"[\x21-\x7e]{1,512}")
_BEARER = re.compile(rb"bearer +(.*)", re.IGNORECASE | re.DOTALL)
_DIGITS = re.compile(rb"[0-9]{1,18}")
_LABEL = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_IDEMPOTENCY = re.compile(rb"[\x20-\x7e]{1,255}")
_OWS = b" \t"

Raw = list[tuple[bytes, bytes]]


class HeaderError(Exception):
    """A header this gateway refuses: ``code`` of the error catalogue, HTTP ``status`` and a message without values."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message


def too_many(limit: int) -> HeaderError:
    """The refusal of more header lines than ``limit`` (RFC 6585 section 5)."""
    return HeaderError("request_too_large", 431, f"more than {limit} headers; send fewer")


def too_large(limit: int) -> HeaderError:
    """The refusal of more than ``limit`` bytes of names and values (RFC 6585 section 5)."""
    return HeaderError("request_too_large", 431, f"headers are larger than {limit} bytes; send fewer or shorter ones")


def bad_name() -> HeaderError:
    """The refusal of a name that is not an RFC 9110 token; the name itself may be anything, so it is not shown."""
    return HeaderError("bad_request", 400, "a header name is not a token (RFC 9110 section 5.6.2); correct or drop it")


def bad(name: bytes, rule: str) -> HeaderError:
    """The refusal of the header ``name`` (already known to be a token) by ``rule``."""
    return HeaderError("bad_request", 400, f"header {name[:SHOWN_MAX].decode('ascii').lower()} {rule}")


def ambiguous() -> HeaderError:
    """The refusal of two credentials that are not the same: choosing one would be guessing who asks."""
    return HeaderError(
        "ambiguous_key",
        400,
        "two different keys among authorization, x-api-key, api-key and x-goog-api-key; send one",
    )


def underscore_twin(name: bytes) -> bool:
    """Whether ``name`` (lower case, with an underscore in it) reads as a header we trust or act on."""
    hyphenated = name.replace(b"_", b"-")
    return hyphenated in TWIN_NAMES or hyphenated.startswith(TWIN_PREFIXES)


def never(name: bytes) -> bool:
    """Whether ``name`` (lower case) travels on in no case, whatever an allow-list says."""
    return name in NEVER or name.startswith(NEVER_PREFIXES)


def lines(raw: Raw) -> Iterator[tuple[bytes, bytes]]:
    """The header lines one by one; TypeError at the first that is not a pair of bytes."""
    if type(raw) is not list:
        raise TypeError(TYPE_RULE)
    for item in raw:
        if type(item) is not tuple or len(item) != 2 or type(item[0]) is not bytes or type(item[1]) is not bytes:
            raise TypeError(TYPE_RULE)
        yield item


def connection_names(raw: Raw) -> frozenset[bytes]:
    """The names that the Connection headers make hop-by-hop for this message (RFC 9110 section 7.6.1), lower case."""
    values = [value for name, value in lines(raw) if name.lower() == b"connection"]
    return frozenset(option.strip(_OWS).lower() for value in values for option in value.split(b","))


@dataclass(frozen=True, slots=True)
class Scan:
    """What the gateway wants to know of a request's head; every other header is only checked.

    ``key`` is the caller's secret, ``b""`` when one is there but unusable (other scheme, empty, over 512 bytes, not
    printable ASCII), None when there is none. ``content_type`` is the bare media type in lower case, ``content_length``
    is -1 when absent, ``label`` a client's x-request-id when it is safe to show, ``sse`` whether it accepts an event
    stream, ``websocket`` whether it asks for that upgrade, ``expect`` whether it waits for 100 (Continue).
    """

    key: bytes | None
    host: bytes
    content_type: bytes | None
    content_length: int
    chunked: bool
    sse: bool
    label: bytes | None
    idempotency_key: bytes | None
    expect: bool
    websocket: bool


class _Draft:
    """The values seen so far; one ``take_*`` method per known header, each given the value without outer blanks."""

    def __init__(self) -> None:
        self.key: bytes | None = None
        self.host: bytes | None = None
        self.media: bytes | None = None
        self.length = -1
        self.chunked = self.sse = self.expect = self.websocket = False
        self.label: bytes | None = None
        self.idempotency: bytes | None = None

    def take_host(self, value: bytes) -> None:
        if self.host is not None:
            raise bad(b"host", RULE_TWO_HOSTS)
        match = _HOST.fullmatch(value)
        if match is None or int(match[1] or 0) > 65535:
            raise bad(b"host", RULE_HOST)
        self.host = value

    def take_key(self, value: bytes) -> None:
        key = value if _KEY.fullmatch(value) else b""
        if self.key is not None and self.key != key:
            raise ambiguous()
        self.key = key

    def take_authorization(self, value: bytes) -> None:
        match = _BEARER.fullmatch(value)
        self.take_key(match[1] if match else b"")

    def take_type(self, value: bytes) -> None:
        if self.media is not None and self.media != value:
            raise bad(b"content-type", RULE_DIFFERS)
        self.media = value

    def take_length(self, value: bytes) -> None:
        if not _DIGITS.fullmatch(value):
            raise bad(b"content-length", RULE_LENGTH)
        if self.length not in (-1, int(value)):
            raise bad(b"content-length", RULE_LENGTHS)
        self.length = int(value)

    def take_transfer(self, value: bytes) -> None:
        if self.chunked or value.lower() != b"chunked":
            raise bad(b"transfer-encoding", RULE_CHUNKED)
        self.chunked = True

    def take_coding(self, value: bytes) -> None:
        if value.lower() != b"identity":
            raise bad(b"content-encoding", RULE_CODING)

    def take_idempotency(self, value: bytes) -> None:
        if not _IDEMPOTENCY.fullmatch(value):
            raise bad(b"idempotency-key", RULE_IDEMPOTENCY)
        if self.idempotency not in (None, value):
            raise bad(b"idempotency-key", RULE_DIFFERS)
        self.idempotency = value

    def take_label(self, value: bytes) -> None:
        if self.label is None and _LABEL.fullmatch(value):
            self.label = value

    def take_accept(self, value: bytes) -> None:
        self.sse = self.sse or b"text/event-stream" in value.lower()

    def take_expect(self, value: bytes) -> None:
        self.expect = self.expect or value.lower() == b"100-continue"

    def take_upgrade(self, value: bytes) -> None:
        self.websocket = self.websocket or value.lower() == b"websocket"

    def finish(self) -> Scan:
        if self.host is None:
            raise bad(b"host", RULE_NO_HOST)
        if self.chunked and self.length >= 0:
            raise bad(b"transfer-encoding", RULE_FRAMING)
        media = (self.media or b"").partition(b";")[0].strip(_OWS).lower() or None
        return Scan(
            self.key,
            self.host,
            media,
            self.length,
            self.chunked,
            self.sse,
            self.label,
            self.idempotency,
            self.expect,
            self.websocket,
        )


_TAKE: dict[bytes, Callable[[_Draft, bytes], None]] = {
    b"host": _Draft.take_host,
    b"authorization": _Draft.take_authorization,
    b"x-api-key": _Draft.take_key,
    b"api-key": _Draft.take_key,
    b"x-goog-api-key": _Draft.take_key,
    b"content-type": _Draft.take_type,
    b"content-length": _Draft.take_length,
    b"transfer-encoding": _Draft.take_transfer,
    b"content-encoding": _Draft.take_coding,
    b"idempotency-key": _Draft.take_idempotency,
    b"x-request-id": _Draft.take_label,
    b"accept": _Draft.take_accept,
    b"expect": _Draft.take_expect,
    b"upgrade": _Draft.take_upgrade,
}


def scan(raw: Raw, max_count: int = 100, max_bytes: int = 32768) -> Scan:
    """Check every header of a request and pick out the known ones.

    ``max_bytes`` counts names and values. Raises HeaderError for the first line that breaks a rule, TypeError when
    ``raw`` is not a list of pairs of bytes.
    """
    if len(raw) > max_count:
        raise too_many(max_count)
    draft = _Draft()
    size = 0
    for name, value in lines(raw):
        size += len(name) + len(value)
        if size > max_bytes:
            raise too_large(max_bytes)
        if not _TOKEN.fullmatch(name):
            raise bad_name()
        if _CONTROL.search(value):
            raise bad(name, RULE_VALUE)
        lower = name.lower()
        if b"_" in lower and underscore_twin(lower):
            raise bad(name, RULE_TWIN)
        take = _TAKE.get(lower)
        if take is not None:
            take(draft, value.strip(_OWS))
    return draft.finish()


class Allow:
    """A compiled allow-list: exact names and name prefixes, letter case aside.

    Raises ValueError for a name or prefix that is not a token of at most 128 bytes, and for a name that may never
    travel on (hop-by-hop, credentials, cookies, forwarding headers, framing). A prefix may cover such names: they are
    left out one by one.
    """

    __slots__ = ("_names", "_prefixes")

    def __init__(self, names: Iterable[bytes], prefixes: Iterable[bytes] = ()) -> None:
        self._names = frozenset(allowed_name(name) for name in names)
        self._prefixes = tuple(allowed_prefix(prefix) for prefix in prefixes)

    def permits(self, name: bytes) -> bool:
        """Whether a header of this name may travel on."""
        if len(name) > NAME_MAX or not _TOKEN.fullmatch(name):
            return False
        lower = name.lower()
        return lower in self._names or (lower.startswith(self._prefixes) and not never(lower))


def allowed_prefix(prefix: bytes) -> bytes:
    """``prefix`` in lower case; ValueError unless it is a token of at most 128 bytes."""
    if len(prefix) > NAME_MAX or not _TOKEN.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not a header name of at most {NAME_MAX} characters")
    return prefix.lower()


def allowed_name(name: bytes) -> bytes:
    """``name`` in lower case; ValueError when it is not a token or may never travel on."""
    lower = allowed_prefix(name)
    if never(lower):
        raise ValueError(f"header {lower.decode('ascii')} can not be put on an allow-list: it never travels on")
    return lower


def overlaps_never(prefix: bytes) -> bool:
    """Whether some name under ``prefix`` may never travel on, so that each must be looked at."""
    covers = any(name.startswith(prefix) for name in (*NEVER, *NEVER_PREFIXES))
    return covers or prefix.startswith(NEVER_PREFIXES)


DEFAULT_NAMES: Final = (b"accept", b"content-type", b"user-agent", b"idempotency-key", b"openai-beta")
DEFAULT_PREFIXES: Final = (b"x-stainless-",)
REPLY_NAMES: Final = (
    *(b"content-type", b"content-encoding", b"content-disposition", b"content-language", b"retry-after"),
    *(b"retry-after-ms", b"openai-processing-ms", b"openai-version", b"openai-model"),
)
DEFAULT_ALLOW: Final = Allow(DEFAULT_NAMES, DEFAULT_PREFIXES)
DEFAULT_REPLY_ALLOW: Final = Allow(REPLY_NAMES)


def _filtered(raw: Raw, allow: Allow) -> Raw:
    dropped = connection_names(raw)
    kept: Raw = []
    seen: set[bytes] = set()
    for name, value in lines(raw):
        lower = name.lower()
        if not allow.permits(name) or lower in dropped or _CONTROL.search(value) or lower in seen:
            continue
        if lower in SINGLETONS:
            seen.add(lower)
        kept.append((lower, value.strip(_OWS)))
    return kept


def forward(raw: Raw, allow: Allow) -> bytes:
    r"""The allowed request headers as ``name: value\r\n`` lines, ready to be spliced into an HTTP/1.1 head.

    Left out: names off the list, names a Connection header makes hop-by-hop, a repeated content-type or
    idempotency-key, and any value with a control character (``scan`` refuses those; a head must not split without it).
    """
    return b"".join(b"%b: %b\r\n" % pair for pair in _filtered(raw, allow))


def respond(raw: Raw, allow: Allow) -> Raw:
    """The allowed headers of an upstream's reply, names in lower case; the same filter, and never x-request-id, which
    is our own call id on every answer.
    """
    return [pair for pair in _filtered(raw, allow) if pair[0] != OURS_IN_REPLIES]
