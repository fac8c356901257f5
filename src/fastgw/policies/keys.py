"""Who is calling: the key's keyed hash looked up, so that time tells nothing of the secret and no secret is kept."""

import hashlib
from urllib.parse import unquote_to_bytes

from fastgw._core import headers
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.plan import Plan
from fastgw.policies.base import Env, Policy
from fastgw.state.table import slot_id

BY_QUERY = (b"/v1beta/", b"/genai/")
UNKNOWN = "Incorrect API key provided. Send a key of this gateway as `Authorization: Bearer <key>`."
MISSING = "You didn't provide an API key. Send a key of this gateway as `Authorization: Bearer <key>`."


def digest(secret: bytes, pepper: bytes) -> bytes:
    """The 32-byte keyed BLAKE2b (RFC 7693) under which a secret is known."""
    return hashlib.blake2b(secret, key=pepper, digest_size=32).digest()


def _with_query(call: Call, secret: bytes | None) -> bytes | None:
    """The secret, which Gemini's clients may also send as the parameter `key`. Raises GatewayError for two of them.

    It is read on the paths of that interface only, and travels no further.
    """
    if not call.exchange.path.startswith(BY_QUERY):
        return secret
    pairs = (part.partition(b"=") for part in call.exchange.query.split(b"&"))
    found = {unquote_to_bytes(value) for name, _, value in pairs if name == b"key"}
    if secret is not None:
        found.add(secret)
    if len(found) > 1:
        raise GatewayError("ambiguous_key", "Two different keys came with this request. Send one, once.")
    return next(iter(found), None)


def flag_id(hashed: bytes) -> bytes:
    """Under which name the shared table keeps whether the key with this digest is blocked."""
    return slot_id("key", hashed.hex(), "flags", "", "")


def build(plan: Plan, env: Env) -> Policy:
    """Sets `call.key`; refuses missing, unknown, blocked and expired keys with a 401."""
    pepper, clock, find, flag = plan.pepper, env.clock, plan.keys.find, env.table.flag

    def head(call: Call, scan: headers.Scan) -> None:
        secret = scan.key if not call.exchange.query else _with_query(call, scan.key)
        if not secret:
            raise GatewayError("invalid_api_key", MISSING if secret is None else UNKNOWN)
        key = find(digest(secret, pepper))
        if key is None:
            raise GatewayError("invalid_api_key", UNKNOWN)
        call.key = key
        if key.blocked or (key.flag >= 0 and flag(key.flag)):
            raise GatewayError("key_blocked", f"The key {key.name!r} is blocked. Ask whoever runs this gateway.")
        if key.expires is not None and clock() >= key.expires:
            raise GatewayError("key_expired", f"The key {key.name!r} has expired. Ask for a new one.")

    return Policy(head=head)
