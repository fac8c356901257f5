"""Microsoft Entra ID: an application's token by its secret, its certificate or a federated token, or an identity's.

Sources: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (applications) and
.../certificate-credentials, https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
(virtual machines), https://learn.microsoft.com/azure/app-service/overview-managed-identity (App Service, Functions).
"""

import base64
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError:  # the compiler says so where a certificate needs it
    pass

from fastgw.plan.credentials import AzureAd
from fastgw.upstream.auth.base import AuthError, Fetch
from fastgw.upstream.auth.tokens import get, post, renewing

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_S = 600
METADATA = "http://169.254.169.254"


def fetcher(credential: AzureAd) -> Fetch:
    """See `base.fetcher`."""
    applies = credential.client_secret or credential.certificate_file or credential.federated_token_file
    if not applies:
        return renewing(lambda: _identity(credential, os.environ))
    url = f"{credential.authority}/{credential.tenant_id}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "client_id": credential.client_id, "scope": credential.scope}
    return renewing(lambda: post(url, form | _proof(credential, url)))


def _proof(credential: AzureAd, url: str) -> dict[str, str]:
    if credential.client_secret:
        return {"client_secret": credential.client_secret}
    if credential.certificate_file:
        assertion = certified(_read(credential.certificate_file), credential.client_id, url, time.time())
    else:
        assertion = _read(credential.federated_token_file).decode("ascii", "replace").strip()
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise AuthError(f"cannot read {file}: {error.strerror}") from None


def certified(pem: bytes, client_id: str, audience: str, now: float) -> str:
    """A JWT by which an application proves itself: PS256 over its certificate's key, at the Unix time `now`.

    `pem` holds the certificate and its unencrypted RSA key. Raises AuthError.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise AuthError("the certificate file must hold a certificate and its key, both as PEM, unencrypted") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise AuthError("the certificate's key must be an RSA key")
    thumbprint = _base64(certificate.fingerprint(hashes.SHA256()))
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}
    claims = {"aud": audience, "iss": client_id, "sub": client_id, "jti": str(uuid.uuid4())}
    times: dict[str, object] = {"nbf": int(now), "iat": int(now), "exp": int(now) + ASSERTION_S}
    text = f"{_json(header)}.{_json({**claims, **times})}"
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return f"{text}.{_base64(key.sign(text.encode(), scheme, hashes.SHA256()))}"


def _identity(credential: AzureAd, environ: Mapping[str, str]) -> dict[str, Any]:
    """A managed identity's token, from where the platform says that it gives them."""
    query = {"resource": credential.scope.removesuffix("/.default")}
    if credential.client_id:
        query["client_id"] = credential.client_id
    endpoint, secret = environ.get("IDENTITY_ENDPOINT"), environ.get("IDENTITY_HEADER")
    if endpoint and secret:
        answer = get(_url(endpoint, {"api-version": "2019-08-01", **query}), {"x-identity-header": secret})
        # This one tells when, not for how long.
        return answer if "expires_in" in answer else {**answer, "expires_in": _until(answer.get("expires_on"))}
    host = environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or METADATA
    path = f"{host.rstrip('/')}/metadata/identity/oauth2/token"
    return get(_url(path, {"api-version": "2018-02-01", **query}), {"metadata": "true"})


def _url(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}"


def _until(moment: object) -> float | None:
    try:
        return float(moment) - time.time()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _json(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
