"""The edge: certificates read and tried, networks and origins checked."""

import binascii
import ipaddress
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from fastgw.plan import config as written
from fastgw.plan import units
from fastgw.plan.compile.context import Context
from fastgw.plan.edge import UNIX, Cors, Edge, Front, Overload, Tls

MAX_NETWORKS = 10_000
MAX_PEM = 1024 * 1024
MAX_ORIGINS, MAX_NAMES = 1000, 100
LEAST_WATCHDOG_S, LEAST_LAG_S = 2.0, 0.05
VERSIONS = ("1.2", "1.3")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
PERCENT = re.compile(r"([0-9]{1,3})%")


def edge(context: Context, *, keyed: bool) -> Edge:
    """Everything of the edge; errors are noted. `keyed`: some key has addresses of its own."""
    config: written.Config = context.config
    return Edge(
        front=Front(tls=_tls(context, config.listen.tls), http2=config.listen.http2),
        trusted=networks(context, "trusted_proxies", config.trusted_proxies),
        allow=networks(context, "allow", config.allow),
        deny=networks(context, "deny", config.deny),
        keyed=keyed,
        cors=_cors(context, config.cors),
        watchdog=_watchdog(context, config.watchdog),
        overload=_overload(context, config.overload),
    )


def networks(context: Context, path: str, texts: list[str]) -> tuple[str, ...]:
    """Networks as they are written in plans; an address is a network of one."""
    if len(texts) > MAX_NETWORKS:
        context.errors.append(f"{path}: {len(texts)} are too many; {MAX_NETWORKS} at most")
        return ()
    return tuple(context.attempt(f"{path}[{n}]", _network, text, default=UNIX) for n, text in enumerate(texts))


def not_after(pem: str) -> int:
    """When the first certificate of a PEM text ends (RFC 5280 section 4.1.2.5), in UTC seconds. Raises ValueError."""
    found = CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    try:
        inside = _members(_members(ssl.PEM_cert_to_DER_cert(found[0]))[0][1])[0][1]
        # Of what is signed: a version (tagged 0xA0) that may be missing, serial, algorithm, issuer, validity.
        fields = _members(inside, whole=True)
        validity = fields[4 if fields[0][0] == 0xA0 else 3][1]
        kind, moment = _members(validity, whole=True)[1]
        form = "%y%m%d%H%M%SZ" if kind == 0x17 else "%Y%m%d%H%M%SZ"
        return int(datetime.strptime(moment.decode("ascii"), form).replace(tzinfo=UTC).timestamp())
    except (binascii.Error, IndexError, ValueError):
        raise ValueError("the certificate cannot be read") from None


def _members(der: bytes, *, whole: bool = False) -> list[tuple[int, bytes]]:
    """(tag, content) of the values in DER (X.690 section 8.1): all of them, or the first alone."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
        if not whole:
            break
    return found


def _network(text: str) -> str:
    if text == UNIX:
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        rule = f"is no network; write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1, or `{UNIX}`"
        raise ValueError(f"{text!r} {rule}") from None
    raise ValueError(f"{text!r} has bits behind its prefix; write {meant}")


def _tls(context: Context, one: written.Tls | None) -> Tls | None:
    if one is None:
        return None
    if one.min_version not in VERSIONS:
        context.errors.append(f"listen.tls.min_version: {one.min_version!r} is none of {', '.join(VERSIONS)}")
    cert = context.attempt("listen.tls.cert", _read, one.cert, default="")
    key = context.attempt("listen.tls.key", _read, one.key, default="")
    client_ca = context.attempt("listen.tls.client_ca", _read, one.client_ca, default="") if one.client_ca else ""
    if not cert or not key:
        return None
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # With a password, even an empty one, nobody is asked for it at a terminal.
        trial.load_cert_chain(one.cert, one.key, password="")
        if (_read(one.cert), _read(one.key)) != (cert, key):
            raise ValueError  # what was tried is not what was read: the next look will find both
    except (ssl.SSLError, OSError, ValueError):
        rule = "the key must be the certificate's own, without a password, both as PEM"
        context.errors.append(f"listen.tls: {one.cert} and {one.key} are no pair that can be served with; {rule}")
    if client_ca:
        context.attempt("listen.tls.client_ca", _authorities, client_ca, default=None)
    expires = context.attempt("listen.tls.cert", not_after, cert, default=0)
    return Tls(cert, key, one.min_version, client_ca, expires)


def _read(path: str) -> str:
    try:
        with Path(path).open(encoding="ascii") as file:
            text = file.read(MAX_PEM + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not PEM; convert it with `openssl x509 -inform der` or `openssl pkey`") from None
    if not text.strip() or len(text) > MAX_PEM:
        raise ValueError(f"{path} is empty or larger than {MAX_PEM} bytes; it must be PEM")
    return text


def _authorities(pem: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds no certificates of authorities as PEM") from None


def _cors(context: Context, one: written.Cors | None) -> Cors | None:
    if one is None:
        return None
    if not one.origins or len(one.origins) > MAX_ORIGINS:
        context.errors.append(f"cors.origins: give 1 to {MAX_ORIGINS}, or `*` for every page")
    for index, origin in enumerate(one.origins):
        if origin != "*" and not ORIGIN.fullmatch(origin):
            rule = "write it in small letters as browsers do: https://app.example.com, with no path and no / at its end"
            context.errors.append(f"cors.origins[{index}]: {origin!r} is no origin; {rule}")
    if len(one.headers) > MAX_NAMES:
        context.errors.append(f"cors.headers: {len(one.headers)} are too many; {MAX_NAMES} at most")
    for index, name in enumerate(one.headers):
        if name == "*" or not TOKEN.fullmatch(name):
            context.errors.append(f"cors.headers[{index}]: {name!r} is no header's name; leave all out to allow any")
    if not 0 <= one.max_age <= 86_400:
        context.errors.append("cors.max_age: must be 0 to 86400 (seconds)")
    return Cors(frozenset(one.origins), tuple(name.lower() for name in one.headers), one.max_age)


def _watchdog(context: Context, text: str) -> float:
    if text == "off":
        return 0.0
    seconds = context.attempt("watchdog", units.duration, text, default=LEAST_WATCHDOG_S)
    if seconds < LEAST_WATCHDOG_S:
        context.errors.append(f"watchdog: must be {LEAST_WATCHDOG_S:g}s at least, or `off`")
    return seconds


def _overload(context: Context, one: written.Overload) -> Overload:
    memory, share, lag = 0, 0.0, 0.0
    if match := PERCENT.fullmatch(one.memory):
        share = int(match[1]) / 100
        if not 0.1 <= share <= 1:
            context.errors.append("overload.memory: must be 10% to 100%, a size, or `off`")
    elif one.memory != "off":
        memory = context.attempt("overload.memory", units.size, one.memory, default=1)
    if one.lag != "off":
        lag = context.attempt("overload.lag", units.duration, one.lag, default=1.0)
        if lag < LEAST_LAG_S:
            context.errors.append("overload.lag: must be 50ms at least, or `off`")
    return Overload(memory, share, lag)
