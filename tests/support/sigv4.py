"""Signature Version 4 as its page describes it, for a server that checks: written from the page, not from botocore.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from urllib.parse import quote, unquote

SCHEME = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), "
    r"Signature=([0-9a-f]{64})"
)


def lines(head: bytes) -> tuple[str, str, dict[str, str]]:
    """(method, target, headers) of a request head."""
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    return method, target, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}


def signature(head: bytes, body: bytes, secret: str) -> str:
    """What the signature of this request must be, by the headers and the scope that it names itself."""
    method, target, headers = lines(head)
    found = SCHEME.fullmatch(headers["authorization"])
    assert found is not None, headers["authorization"]
    _, day, region, service, names, _ = found.groups()
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            # Each segment of the path as sent is encoded once more.
            "/".join(quote(segment, safe="-_.~") for segment in path.split("/")),
            "&".join(sorted(encoded(part) for part in query.split("&") if part)),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def encoded(part: str) -> str:
    name, _, value = part.partition("=")
    return f"{quote(unquote(name), safe='-_.~')}={quote(unquote(value), safe='-_.~')}"


def given(head: bytes) -> tuple[str, ...]:
    """(key id, day, region, service, signed headers, signature) that a head carries."""
    found = SCHEME.fullmatch(lines(head)[2]["authorization"])
    assert found is not None
    return found.groups()
