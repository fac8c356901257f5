"""Who is calling: the key's keyed hash looked up, so that time tells nothing of the secret and no secret is kept."""

import hashlib

from fastgw._core import headers
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.plan import Plan
from fastgw.policies.base import Env, Policy
from fastgw.state.table import slot_id

UNKNOWN = "Incorrect API key provided. Send a key of this gateway as `Authorization: Bearer <key>`."
MISSING = "You didn't provide an API key. Send a key of this gateway as `Authorization: Bearer <key>`."


def digest(secret: bytes, pepper: bytes) -> bytes:
    """The 32-byte keyed BLAKE2b (RFC 7693) under which a secret is known."""
    return hashlib.blake2b(secret, key=pepper, digest_size=32).digest()


def flag_id(hashed: bytes) -> bytes:
    """Under which name the shared table keeps whether the key with this digest is blocked."""
    return slot_id("key", hashed.hex(), "flags", "", "")


def build(plan: Plan, env: Env) -> Policy:
    """Sets `call.key`; refuses missing, unknown, blocked and expired keys with a 401."""
    pepper, clock, find, flag = plan.pepper, env.clock, plan.keys.find, env.table.flag

    def head(call: Call, scan: headers.Scan) -> None:
        secret = scan.key
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
