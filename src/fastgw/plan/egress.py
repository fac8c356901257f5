"""The egress proxy an environment asks for: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as curl reads them.

Source: https://everything.curl.dev/usingcurl/proxies/env.html. Lower-case spellings win; `HTTP_PROXY` is read in lower
case only, because a CGI server would let a request header set the other.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network


def from_environment(environ: Mapping[str, str], scheme: str, host: str) -> str | None:
    """The proxy for `scheme://host`, or None for a direct connection."""
    spellings = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    names = spellings if scheme == "https" else ("http_proxy", "all_proxy", "ALL_PROXY")
    proxy = next((environ[name] for name in names if environ.get(name)), None)
    if proxy is None or _loopback(host) or _excepted(host, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _loopback(host: str) -> bool:
    """No proxy elsewhere can reach this machine's own loopback."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _excepted(host: str, exceptions: str) -> bool:
    host = host.lower().rstrip(".")
    for entry in exceptions.replace(" ", ",").split(","):
        pattern = entry.strip().lower()
        if not pattern:
            continue
        if pattern == "*" or _covers(pattern, host):
            return True
    return False


def _covers(pattern: str, host: str) -> bool:
    """A domain covers itself and what is below it; a network covers its addresses."""
    try:
        return ip_address(host.strip("[]")) in ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        name = pattern.lstrip("*").lstrip(".")
        return host == name or host.endswith(f".{name}")
