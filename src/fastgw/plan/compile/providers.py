"""Providers: where they are, how a request to them is signed, which headers may travel."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec.structs import replace

from fastgw._core import headers as native
from fastgw.plan import config as written
from fastgw.plan import units
from fastgw.plan.compile.context import Context
from fastgw.plan.compile.credentials import credential
from fastgw.plan.compile.places import base_url, fill, own_fields, places
from fastgw.plan.compile.quirks import quirks
from fastgw.plan.egress import from_environment
from fastgw.plan.plan import Origin, Upstream
from fastgw.providers import PROVIDERS
from fastgw.providers.base import Provider
from fastgw.providers.surfaces import SURFACES, Surface
from fastgw.upstream.proxy import parse as parse_proxy

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!-~]*)?", re.IGNORECASE)
API_VERSION = re.compile(r"[A-Za-z0-9._-]*")
DEFAULT_PORTS = {"http": 80, "https": 443}
NEVER_FORWARDED = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "authorization", "cookie", "x-api-key", "api-key"}
)
OURS = frozenset({"content-type", "accept-encoding"})


def upstreams(context: Context, name: str, one: written.Provider) -> list[tuple[str, Upstream]]:
    """A provider under its name and, for each further credential, under `name#2`, `name#3`, ..."""
    if one.api_keys and (one.api_key or one.auth is not None):
        context.errors.append(f"providers.{name}.api_keys: give them, or `api_key`, or `auth`; not two of these")
    keys: list[str | None] = [*one.api_keys] or [one.api_key]
    made: list[tuple[str, Upstream]] = []
    for number, key in enumerate(keys, 1):
        found = upstream(context, name, replace(one, api_key=key, api_keys=[]))
        if found is not None:
            made.append((name if number == 1 else f"{name}#{number}", found))
        if context.errors:
            break  # the others would only repeat what is wrong
    return made


def upstream(context: Context, name: str, one: written.Provider) -> Upstream | None:
    path = f"providers.{name}"
    kind = PROVIDERS.get(one.kind)
    context.check_name(path, name)
    if kind is None:
        context.errors.append(f"{path}.kind: unknown {one.kind!r}; known are {', '.join(PROVIDERS)}")
        return None
    found = len(context.errors)
    signs = credential(context, path, one, kind)
    if kind.key_required and not one.api_key and signs is None and len(context.errors) == found:
        context.errors.append(f"{path}.api_key: missing; give it as ${{NAME}} or ${{file:PATH}}")
    values = places(context, path, one, kind)
    place = base(context, path, one, kind, values)
    if place is None:
        return None
    origin, prefix = place
    version = one.api_version or kind.api_version
    if not API_VERSION.fullmatch(version):
        context.errors.append(f"{path}.api_version: must be letters, digits, dots and hyphens")
    check_headers(context, path, one)
    fixed = bool(one.api_key) and signs is None
    surface = SURFACES.get(one.kind, Surface())
    keeps_responses = {"openai_responses": surface.responses} if surface.responses else {}
    return Upstream(
        name=name,
        kind=one.kind,
        origin=origin,
        paths=_paths(prefix, keeps_responses | kind.speaks, version, values),
        stream_paths=_paths(prefix, kind.stream_speaks, version, values),
        asks_usage=kind.asks_usage,
        auth_header=kind.auth_header if fixed else "",
        auth_value=f"{kind.auth_scheme} {one.api_key}".strip() if fixed else "",
        headers={**kind.headers, **one.headers},
        allow=(*kind.allow, *(header.lower() for header in one.allow_headers)),
        region=one.region,
        quirks=own_fields(kind, quirks(context, f"{path}.quirks", one.quirks), values),
        credential=signs,
        passes=_paths(prefix, surface.passes, version, values),
        keeps=_paths(prefix, {"keeps": surface.keeps}, version, values)["keeps"] if surface.keeps else "",
    )


def base(
    context: Context, path: str, one: written.Provider, kind: Provider, values: Mapping[str, str]
) -> tuple[Origin, str] | None:
    """The origin and path prefix of a provider's base URL; None (and an error) when it has no usable one."""
    url = fill(base_url(one, kind), values)
    if not url:
        context.errors.append(f"{path}.base_url: missing; {one.kind} has no fixed address")
        return None
    try:
        parts = urlsplit(url) if URL.fullmatch(url) else None
        port = (parts.port or DEFAULT_PORTS[parts.scheme]) if parts else 0
    except ValueError:
        parts, port = None, 0
    if parts is None or not port or not parts.hostname or parts.query or parts.fragment:
        context.errors.append(f"{path}.base_url: must be http(s)://host[:port][/path], without user, query or fragment")
        return None
    # `proxy: ""` asks for a direct connection whatever the environment says.
    proxy = (
        one.proxy if one.proxy is not None else from_environment(context.loaded.environ, parts.scheme, parts.hostname)
    )
    if proxy:
        context.attempt(f"{path}.proxy", parse_proxy, proxy, default=None)
    if one.client_key is not None and one.client_cert is None:
        context.errors.append(f"{path}.client_key: needs `client_cert` beside it")
    for field in ("ca_file", "client_cert", "client_key"):
        file = getattr(one, field)
        if file is not None and not Path(file).is_file():
            context.errors.append(f"{path}.{field}: no such file: {file}")
    for field in ("max_connections", "queue"):
        if getattr(one, field) < 1:
            context.errors.append(f"{path}.{field}: must be 1 or more")
    origin = Origin(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        proxy=proxy or None,
        ca_file=one.ca_file,
        client_cert=one.client_cert,
        client_key=one.client_key,
        max_connections=one.max_connections,
        queue=one.queue,
        queue_timeout=context.attempt(f"{path}.queue_timeout", units.duration, one.queue_timeout, default=5.0),
    )
    return origin, parts.path.rstrip("/")


def check_headers(context: Context, path: str, one: written.Provider) -> None:
    for name in one.allow_headers:
        if not _may_travel(name):
            context.errors.append(f"{path}.allow_headers: {name!r} may not be forwarded")
    for name, value in one.headers.items():
        if not _may_travel(name) or name.lower() in OURS:
            context.errors.append(f"{path}.headers: {name!r} may not be set here")
        check_header_value(context, f"{path}.headers.{name}", value)
    if one.api_key:
        check_header_value(context, f"{path}.api_key", one.api_key)


def check_header_value(context: Context, path: str, value: str) -> None:
    """The value itself is never shown: it may be a secret."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        context.errors.append(f"{path}: must be printable ASCII without spaces at its ends (a line break in the file?)")


def _may_travel(name: str) -> bool:
    """Whether a header of this name may be sent to an upstream beside those the gateway makes itself."""
    if not HEADER_NAME.fullmatch(name) or name.lower() in NEVER_FORWARDED:
        return False
    try:
        native.Allow((name.encode(),))
    except ValueError:
        return False
    return True


def _paths(prefix: str, speaks: dict[str, str], version: str, values: Mapping[str, str]) -> dict[str, str]:
    return {
        dialect: prefix + fill(template, values).replace("{api_version}", version)
        for dialect, template in speaks.items()
    }
