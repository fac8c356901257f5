"""The console's HTTP side: a few routes, each behind a check of the Host header, most behind the admin key.

The Host check is against DNS rebinding: a page of somebody else's, whose name was made to point here, would otherwise
be same-origin with us. A rebound name is a name, so that an IP address in `Host` is always fine.
"""

import asyncio
import hmac
import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fastgw import __version__
from fastgw._core import table as shared
from fastgw.console import page
from fastgw.telemetry.log import LEVELS
from fastgw.telemetry.metrics import RegistryError, SeriesRegistry, render, series_name

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MAX_BODY = 1024
BODY_S = 5.0
SERIES = "series.json"
STATUS = "status.json"

Headers = list[tuple[bytes, bytes]]
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_STATUS_LABEL = re.compile(r'^fastgw_requests_total\{.*status="([^"]+)"\}$')
_COMMON: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Refusal(Exception):
    """A request that gets no more than a status and a sentence."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers


class Console:
    """The application.

    Args:
        data_dir: where `status.json` and `series.json` are.
        table: the shared table, for sums.
        admin_key: what `/status.json`, `/metrics` and `/log-level` ask for.
        hosts: names the operator gave this listener, besides the local ones.
        set_level: passes a log level on; False when nobody takes it.
    """

    def __init__(
        self,
        *,
        data_dir: str | Path,
        table: shared.Table,
        admin_key: str,
        hosts: Sequence[str],
        set_level: Callable[[str], bool],
    ) -> None:
        self._data_dir = Path(data_dir)
        self._table = table
        self._key = admin_key.encode()
        self._hosts = {"localhost", *(host.strip("[]").lower() for host in hosts)}
        self._set_level = set_level
        self._registry = SeriesRegistry(table.counters)
        self._registry_read: tuple[int, int] | None = None
        self._routes: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "/"): self._page,
            ("GET", "/health/live"): self._live,
            ("GET", "/status.json"): self._status,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/log-level"): self._log_level,
        }
        self._open = {"/", "/health/live"}

    async def __call__(self, scope: dict[str, Any], proto: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status, headers, body = await self._answer(scope, proto)
        except Refusal as refusal:
            status, headers = refusal.status, [*refusal.headers, (b"content-type", b"application/json")]
            body = msgspec.json.encode({"error": refusal.message})
        headers = [*headers, *_COMMON, (b"content-length", b"%d" % len(body))]
        if scope["method"] == "HEAD":
            body = b""
        await proto.send({"type": "http.response.start", "status": status, "headers": headers})
        await proto.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _answer(self, scope: dict[str, Any], proto: Any) -> tuple[int, Headers, bytes]:
        headers: Headers = scope["headers"]
        self._check_host(headers)
        path, method = scope["path"], scope["method"]
        if path not in self._open and any(path == known for _, known in self._routes):
            self._check_key(headers)
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        if route is None:
            allowed = [known for known, at in self._routes if at == path]
            if not allowed:
                raise Refusal(404, "There is nothing here. See /, /status.json, /metrics, POST /log-level.")
            raise Refusal(405, f"Use {allowed[0]}.", (b"allow", allowed[0].encode()))
        return await route(proto)  # type: ignore[no-any-return]

    def _check_host(self, headers: Headers) -> None:
        values = [value.decode("latin-1") for name, value in headers if name == b"host"]
        match = _HOST.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            raise Refusal(400, "The request needs one Host header, a name or an address.")
        name = match[1].strip("[]").lower()
        if name not in self._hosts and not _is_address(name):
            raise Refusal(403, "This Host is not one of the console's; use localhost, an IP address or --console-host.")

    def _check_key(self, headers: Headers) -> None:
        values = [value for name, value in headers if name == b"authorization"]
        scheme, _, given = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            message = "Send `Authorization: Bearer KEY` with the admin key; it is in admin.key in the data directory."
            raise Refusal(401, message, (b"www-authenticate", b'Bearer realm="fastgw"'))

    async def _page(self, _: Any) -> tuple[int, Headers, bytes]:
        return (
            200,
            [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", page.POLICY)],
            page.PAGE,
        )

    async def _live(self, _: Any) -> tuple[int, Headers, bytes]:
        return 200, [(b"content-type", b"application/json")], b'{"status":"live"}'

    async def _status(self, _: Any) -> tuple[int, Headers, bytes]:
        body = await asyncio.to_thread(self._status_body)
        return 200, [(b"content-type", b"application/json")], body

    async def _metrics(self, _: Any) -> tuple[int, Headers, bytes]:
        return 200, [(b"content-type", METRICS_TYPE)], await asyncio.to_thread(self._metrics_body)

    async def _log_level(self, proto: Any) -> tuple[int, Headers, bytes]:
        try:
            level = msgspec.json.decode(await _body(proto), type=dict[str, str])["level"]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            raise Refusal(400, 'The body must be {"level": "info"}.') from None
        if level not in LEVELS:
            raise Refusal(400, f"Unknown level; use one of {', '.join(LEVELS)}.")
        if not self._set_level(level):
            raise Refusal(503, "The supervisor does not listen.")
        return 200, [(b"content-type", b"application/json")], msgspec.json.encode({"level": level})

    def _status_body(self) -> bytes:
        status = read_status(self._data_dir)
        self._refresh()
        sums = self._registry.sums(self._table)
        totals: dict[str, int] = {}
        for name, place in self._registry.series.items():
            if match := _STATUS_LABEL.match(name):
                totals[match[1]] = totals.get(match[1], 0) + sums[place]
        return msgspec.json.encode({**status, "requests": totals, "disk": _disk(self._data_dir)})

    def _metrics_body(self) -> bytes:
        self._refresh()
        return render(self._table, self._registry, gauges(read_status(self._data_dir)))

    def _refresh(self) -> None:
        """Read the places of the series again when the supervisor has written them anew."""
        path = self._data_dir / SERIES
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._registry_read:
                self._registry = SeriesRegistry.load(path.read_bytes(), self._table.counters)
                self._registry_read = stamp
        except (OSError, RegistryError):  # the one known so far is right as far as it goes: places never move
            return


def read_status(data_dir: str | Path) -> dict[str, Any]:
    """What the supervisor last wrote of itself; empty when there is nothing (it has ended, or is just starting)."""
    try:
        return msgspec.json.decode((Path(data_dir) / STATUS).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}


def gauges(status: dict[str, Any]) -> dict[str, float]:
    """The gauges that are not in the shared table, by series name."""
    workers: list[dict[str, Any]] = status.get("workers", [])
    values: dict[str, float] = {series_name("fastgw_info", __version__): 1}
    if not status:
        return {**values, "fastgw_ready": 0, "fastgw_workers": 0}
    return {
        **values,
        "fastgw_start_time_seconds": status["started"],
        "fastgw_ready": int(status["ready"] and not status["draining"]),
        "fastgw_config_revision": status["revision"],
        "fastgw_workers": sum(worker["pid"] is not None for worker in workers),
        "fastgw_requests_in_flight": sum(worker["live"] for worker in workers),
        series_name("fastgw_upstream_connections", "idle"): sum(worker["idle"] for worker in workers),
        series_name("fastgw_upstream_connections", "busy"): sum(worker["busy"] for worker in workers),
        "fastgw_recorder_behind_seconds": status["recorder"]["behind_s"],
        "fastgw_recorder_records": status["recorder"]["records"],
        "fastgw_recorder_damaged_segments": status["recorder"]["damaged"],
        "fastgw_spool_bytes": status["spool"]["bytes"],
        "fastgw_spool_segments": status["spool"]["segments"],
    }


async def _body(proto: Any) -> bytes:
    """A small request body, whole."""
    parts: list[bytes] = []
    async with asyncio.timeout(BODY_S):
        while True:
            message = await proto.receive()
            if message["type"] != "http.request":
                raise Refusal(400, "The body did not come to its end.")
            parts.append(message["body"])
            if sum(map(len, parts)) > MAX_BODY:
                raise Refusal(413, f"The body is larger than {MAX_BODY} bytes.")
            if not message["more_body"]:
                return b"".join(parts)


def _disk(place: Path) -> dict[str, int]:
    """Bytes of the file system the data directory is on."""
    try:
        found = os.statvfs(place)
    except OSError:
        return {}
    return {"free": found.f_bavail * found.f_frsize, "total": found.f_blocks * found.f_frsize}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
