"""AWS: every request is signed over its head and body (Signature Version 4), by botocore.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from datetime import UTC, datetime
from typing import Any

try:
    import botocore.exceptions  # type: ignore[import-untyped,unused-ignore]
    import botocore.session  # type: ignore[import-untyped,unused-ignore]
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped,unused-ignore]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped,unused-ignore]
    from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped,unused-ignore]
except ImportError:
    botocore = None

from fastgw.plan.credentials import Aws
from fastgw.upstream.auth.base import AuthError, Fetch, Fresh

SIGNED = frozenset({"host", "content-type"})
"""The headers of ours that are signed, beside those that signing adds; proxies may touch the others."""


class SigV4:
    """Signs with one set of keys. `secret` is the session token: of the keys only the id is ever sent."""

    __slots__ = ("_signer", "secret")

    def __init__(self, keys: Any, service: str, region: str) -> None:
        self._signer: Any = SigV4Auth(keys, service, region)
        self.secret: bytes = (keys.token or "").encode()

    def sign(self, head: bytes, body: bytes) -> bytes:
        """See `base.Proof.sign`."""
        line, *rest = head[:-4].decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ")
        named = (one.partition(":") for one in rest)
        headers = {name: value.strip() for name, _, value in named}
        request = AWSRequest(
            method,
            f"https://{headers['host']}{path}",
            {name: value for name, value in headers.items() if name in SIGNED},
            body,
        )
        self._signer.add_auth(request)
        made = (f"{name.lower()}: {value}\r\n" for name, value in request.headers.items() if name.lower() not in SIGNED)
        return b"%b%b\r\n" % (head[:-2], "".join(made).encode("latin-1"))


def fetcher(credential: Aws) -> Fetch:
    """See `base.fetcher`."""
    if botocore is None:
        raise AuthError("needs the package botocore: pip install 'fastgw[aws]'")

    def fetch() -> Fresh:
        keys, life = _keys(credential)
        return Fresh(SigV4(keys, credential.service, credential.region), life)

    return fetch


def _keys(credential: Aws) -> tuple[Any, float | None]:
    """Access keys and for how long they hold, as far as that is known.

    A chain is walked anew each time: what a session found is refreshed by it only shortly before its end.
    """
    if credential.access_key_id:
        key, secret = credential.access_key_id, credential.secret_access_key
        return ReadOnlyCredentials(key, secret, credential.session_token or None), None
    try:
        session = botocore.session.Session(profile=credential.profile or None)
        session.set_config_variable("region", credential.region)
        found = session.get_credentials()
        if found is None:
            raise AuthError("no AWS credentials in the environment, profiles, web identity, container or instance")
        keys = found.get_frozen_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise AuthError(f"botocore: {type(error).__name__}") from None
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))[:64]
        raise AuthError(f"AWS refused to give credentials: {code}") from None
    # Public are only the keys; when they expire is known to those that can.
    expires = getattr(found, "_expiry_time", None)
    return keys, None if expires is None else _left(expires)


def _left(expires: datetime) -> float:
    seconds = (expires - datetime.now(UTC)).total_seconds()
    if seconds <= 0:
        raise AuthError("the AWS credentials found have expired already")
    return seconds
