"""Google Cloud: OAuth tokens for a service account, a workload identity, a user or the machine's own account.

Source: https://cloud.google.com/docs/authentication/application-default-credentials; the work is google-auth's.
"""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import google.auth
    import google.auth.aws
    import google.auth.exceptions
    import google.auth.identity_pool
    import google.auth.impersonated_credentials
    import google.auth.transport.requests
    import google.oauth2.credentials
    import google.oauth2.service_account
    import requests
except ImportError:
    google = requests = None  # type: ignore[assignment,unused-ignore]

from fastgw.plan.credentials import Google
from fastgw.upstream.auth.base import AuthError, Bearer, Fetch, Fresh, life_of

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT_S = 10.0
CODE = re.compile(r"[a-z_]{1,40}(?=: )")
_auth: Any = google
"""google-auth, of which half is untyped."""


def fetcher(credential: Google) -> Fetch:
    """See `base.fetcher`."""
    if _auth is None:
        raise AuthError("needs the package google-auth: pip install 'fastgw[google]'")
    return lambda: _fetch(credential)


def _fetch(credential: Google) -> Fresh:
    with requests.Session() as session:
        transport = _Transport(session)
        try:
            found = _find(credential, transport)
            found.refresh(transport)
        except _auth.auth.exceptions.TransportError:
            raise AuthError("Google's token service could not be reached") from None
        except _auth.auth.exceptions.GoogleAuthError as error:
            raise AuthError(f"google-auth: {_said(error)}") from None
    if found.expiry is None:
        return Fresh(Bearer(found.token), None)
    expires = found.expiry.replace(tzinfo=UTC)  # google-auth's times are UTC without saying so
    return Fresh(Bearer(found.token), life_of((expires - datetime.now(UTC)).total_seconds()))


class _Transport:
    """google-auth's transport over `requests`, with a deadline below its own two minutes."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self._inner: Any = _auth.auth.transport.requests.Request(session)

    def __call__(self, *arguments: Any, timeout: float = TIMEOUT_S, **more: Any) -> Any:
        return self._inner(*arguments, timeout=min(timeout or TIMEOUT_S, TIMEOUT_S), **more)


def _find(credential: Google, transport: _Transport) -> Any:
    file = credential.credentials_file or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if file:
        return _from_file(file)
    return _auth.auth.default(scopes=SCOPES, request=transport)[0]


def _from_file(file: str) -> Any:
    """Credentials of the type that the file names; programs that it names are not run."""
    try:
        info = json.loads(Path(file).read_bytes())
        kind = info["type"]
    except OSError as error:
        raise AuthError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        raise AuthError(f"{file} is no credentials file of Google") from None
    try:
        return _of_type(kind, info)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AuthError(f"{file} lacks something or is damaged ({type(error).__name__})") from None


def _of_type(kind: str, info: dict[str, Any]) -> Any:
    if kind == "service_account":
        return _auth.oauth2.service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    if kind == "authorized_user":
        return _auth.oauth2.credentials.Credentials.from_authorized_user_info(info, scopes=SCOPES)
    if kind == "impersonated_service_account":
        impersonated = _auth.auth.impersonated_credentials.Credentials
        return impersonated.from_impersonated_service_account_info(info, scopes=SCOPES)
    if kind == "external_account":
        source = info["credential_source"]
        if "executable" in source:
            raise AuthError("credentials that come from a program are not supported")
        scheme = _auth.auth.aws if "environment_id" in source else _auth.auth.identity_pool
        return scheme.Credentials.from_info(info, scopes=SCOPES)
    raise AuthError(f"credentials of the type {str(kind)[:40]!r} are not supported")


def _said(error: Exception) -> str:
    """The code that a token endpoint gave, else what kind of error it is: the texts may quote what was sent."""
    found = CODE.match(str(error.args[0])) if error.args else None
    return found[0] if found else type(error).__name__
