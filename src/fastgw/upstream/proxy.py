"""Egress through an HTTP proxy: CONNECT for https origins, absolute-form requests for http ones (RFC 9110 9.3.6).

The proxy's URL may hold credentials. They go into one request header and into nothing else.
"""

import asyncio
import re
import socket
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

MAX_HEAD = 16 * 1024

_HEAD = re.compile(
    rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)


class Proxy(NamedTuple):
    """Where the proxy is and what it wants to hear; `authorization` is a secret header value or b""."""

    host: str
    port: int
    authorization: bytes

    @property
    def name(self) -> str:
        """For messages: no credentials."""
        return authority(self.host, self.port)


def authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str) -> Proxy:
    """Read `http://[user[:password]@]host[:port]`.

    Raises:
        ValueError: it is not such a URL. The message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise ValueError("the proxy's URL cannot be read") from None
    if parts.scheme != "http" or not host:
        raise ValueError("the proxy's URL must be http://host:port")
    credentials = b""
    if parts.username is not None:
        credentials = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return Proxy(host, port, b"Basic " + b64encode(credentials) if credentials else b"")


def absolute(head: bytes, prefix: bytes, proxy: Proxy) -> bytes:
    """The request head in absolute-form with the proxy's credentials; `prefix` is `http://host:port`."""
    method, _, rest = head.partition(b" ")
    line, end, headers = rest.partition(b"\r\n")
    secret = b"proxy-authorization: " + proxy.authorization + b"\r\n" if proxy.authorization else b""
    return b"".join((method, b" ", prefix, line, end, secret, headers))


async def tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask the connected `sock` for a tunnel to host:port.

    Raises:
        OSError: refused, or not answered as RFC 9110 has it.
    """
    target = authority(host, port).encode("ascii")
    request = b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n"
    if proxy.authorization:
        request += b"proxy-authorization: " + proxy.authorization + b"\r\n"
    await loop.sock_sendall(sock, request + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(sock, 4096)
        head += data
        if not data or len(head) > MAX_HEAD:
            raise OSError(f"proxy {proxy.name} gave no complete answer to CONNECT")
    _judge(head, proxy)


def _judge(head: bytes, proxy: Proxy) -> None:
    """A 2xx head and not one byte more: the tunnel's far end speaks TLS and so never speaks first."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise OSError(f"proxy {proxy.name} did not answer CONNECT in valid HTTP")
    status = int(match[1])
    if not 200 <= status <= 299:
        why = " (its credentials were not accepted)" if status == 407 else ""
        raise OSError(f"proxy {proxy.name} refused CONNECT with status {status}{why}")
