"""Ids of things that a provider keeps for one caller: sealed, so that no other caller can use them.

A token is URL-safe base64 of a keyed BLAKE2b (RFC 7693, 16 bytes) and of what it vouches for: the provider that keeps
the thing and its id there. The owner, a key's name, goes into the hash and not into the token. Nothing is stored: the
key is derived from the pepper, so every worker, and the node after a restart, opens what any of them has sealed. A
token hides nothing; it can neither be forged nor passed on. The same thing of the same owner has one token always.
"""

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

MAC_BYTES = 16
PERSON = b"fastgw-seal-1"
MAX_TOKEN = 1024
MAX_PLACE = 255


class Sealed(NamedTuple):
    """What a token stands for: the provider's name in the config, and the id there."""

    place: str
    ident: str


class Seal:
    """Makes and opens tokens. `pepper` is the secret of the data directory."""

    __slots__ = ("_key",)

    def __init__(self, pepper: bytes) -> None:
        self._key = hashlib.blake2b(key=pepper, person=PERSON, digest_size=32).digest()

    def __repr__(self) -> str:
        return "Seal(***)"

    def seal(self, owner: str, sealed: Sealed, prefix: str) -> str:
        """The token by which `owner` may use the thing. ValueError: a name too long to be told in a token."""
        place = sealed.place.encode()
        if len(place) > MAX_PLACE:
            raise ValueError(f"a provider's name is longer than {MAX_PLACE} bytes")
        told = bytes([len(place)]) + place + sealed.ident.encode()
        return prefix + urlsafe_b64encode(self._mac(owner, prefix, told) + told).rstrip(b"=").decode()

    def open(self, owner: str, token: str, prefix: str) -> Sealed | None:
        """What a token of `owner` stands for; None for anything else: damaged, forged, of another owner or kind."""
        if not token.startswith(prefix) or len(token) > MAX_TOKEN:
            return None
        text = token[len(prefix) :]
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            told = raw[MAC_BYTES:]
            if not told or not hmac.compare_digest(raw[:MAC_BYTES], self._mac(owner, prefix, told)):
                return None
            sealed = Sealed(told[1 : 1 + told[0]].decode(), told[1 + told[0] :].decode())
        except (binascii.Error, ValueError):
            return None
        # Base64 has several spellings of the same bytes, and there is to be one token of a thing.
        return sealed if self.seal(owner, sealed, prefix) == token else None

    def _mac(self, owner: str, prefix: str, told: bytes) -> bytes:
        name, kind = owner.encode(), prefix.encode()
        lengths = len(name).to_bytes(4, "big") + len(kind).to_bytes(4, "big")
        return hashlib.blake2b(lengths + name + kind + told, key=self._key, digest_size=MAC_BYTES).digest()
