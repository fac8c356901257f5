"""Credentials that are more than a key: of what scheme a provider's is, and whether all it needs is there."""

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fastgw.plan import config as written
from fastgw.plan.compile.context import Context
from fastgw.plan.credentials import Aws, AzureAd, Credential, Google, Ibm
from fastgw.providers.base import Provider

PACKAGES = {"aws": ("botocore",), "google": ("google.auth", "requests")}
"""What a scheme needs beside fastgw itself, which installs it as an extra of the scheme's name."""

Auth = written.AwsAuth | written.GoogleAuth | written.AzureAdAuth | written.IbmAuth
URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DEFAULTS: dict[str, Auth] = {"aws": written.AwsAuth(), "google": written.GoogleAuth()}
"""Schemes that find their credential by themselves where the config holds none."""


def credential(context: Context, path: str, one: written.Provider, kind: Provider) -> Credential | None:
    """What signs the requests to a provider; None where that is its `api_key`, or nothing."""
    if one.auth is not None and one.api_key:
        context.errors.append(f"{path}.api_key: give it or `auth`, not both")
        return None
    auth = one.auth or _default(one, kind)
    if auth is None:
        return None
    path = f"{path}.auth"
    scheme = str(auth.__struct_config__.tag)
    if not all(map(_installed, PACKAGES.get(scheme, ()))):
        other = "" if one.auth is not None else ", or give `api_key`"
        problem = f"`{scheme}` needs a package that is not here: pip install 'fastgw[{scheme}]'{other}"
        context.errors.append(f"{path}: {problem}")
        return None
    if isinstance(auth, written.AwsAuth):
        return _aws(context, path, auth, one)
    if isinstance(auth, written.GoogleAuth):
        return Google(_file(context, f"{path}.credentials_file", auth.credentials_file))
    if isinstance(auth, written.AzureAdAuth):
        return _azure_ad(context, path, auth)
    return _ibm(context, path, auth)


def _default(one: written.Provider, kind: Provider) -> Auth | None:
    """What the kind's own scheme makes of a provider that says nothing about it."""
    if kind.auth == "ibm" and one.api_key:
        return written.IbmAuth(one.api_key)
    return None if one.api_key else DEFAULTS.get(kind.auth)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _aws(context: Context, path: str, auth: written.AwsAuth, one: written.Provider) -> Aws:
    if bool(auth.access_key_id) != bool(auth.secret_access_key):
        context.errors.append(f"{path}: `access_key_id` and `secret_access_key` belong together; give both or neither")
    if auth.session_token and not auth.access_key_id:
        context.errors.append(f"{path}.session_token: needs `access_key_id` and `secret_access_key` beside it")
    if auth.profile and auth.access_key_id:
        context.errors.append(f"{path}.profile: give it or `access_key_id`, not both")
    environ = context.loaded.environ
    region = auth.region or one.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    for field, value in (("region", region), ("service", auth.service)):
        if not value:
            context.errors.append(f"{path}.{field}: missing; requests are signed for one")
        elif not NAME.fullmatch(value):
            context.errors.append(f"{path}.{field}: must be letters, digits and hyphens")
    for field in ("access_key_id", "secret_access_key", "session_token", "profile"):
        _check_text(context, f"{path}.{field}", getattr(auth, field))
    return Aws(region, auth.service, auth.access_key_id, auth.secret_access_key, auth.session_token, auth.profile)


def _azure_ad(context: Context, path: str, auth: written.AzureAdAuth) -> AzureAd:
    proofs = ("client_secret", "certificate_file", "federated_token_file", "managed_identity")
    given = [name for name in proofs if getattr(auth, name)]
    if len(given) != 1:
        context.errors.append(f"{path}: give one of {', '.join(proofs)}" + (", not several" if given else ""))
    if not auth.managed_identity:
        for field in ("tenant_id", "client_id"):
            if not NAME.fullmatch(getattr(auth, field)):
                problem = "missing" if not getattr(auth, field) else "must be letters, digits, dots and hyphens"
                context.errors.append(f"{path}.{field}: {problem}")
    if auth.certificate_file and not _installed("cryptography"):
        context.errors.append(f"{path}.certificate_file: needs a package that is not here: pip install cryptography")
    for field in ("client_id", "client_secret", "scope"):
        _check_text(context, f"{path}.{field}", getattr(auth, field))
    return AzureAd(
        auth.tenant_id,
        auth.client_id,
        auth.client_secret,
        _file(context, f"{path}.certificate_file", auth.certificate_file),
        # Not looked for: what puts it there may start later than we.
        auth.federated_token_file or "",
        auth.scope,
        _url(context, f"{path}.authority", auth.authority),
    )


def _ibm(context: Context, path: str, auth: written.IbmAuth) -> Ibm:
    if not auth.api_key:
        context.errors.append(f"{path}.api_key: missing; give it as ${{NAME}} or ${{file:PATH}}")
    _check_text(context, f"{path}.api_key", auth.api_key)
    return Ibm(auth.api_key, _url(context, f"{path}.url", auth.url))


def _url(context: Context, path: str, url: str) -> str:
    """`url` without a slash at its end; plain HTTP is for tests on the machine itself."""
    try:
        parts = urlsplit(url) if URL.fullmatch(url) else None
        local = parts is not None and parts.hostname in ("127.0.0.1", "::1", "localhost")
    except ValueError:
        parts, local = None, False
    if parts is None or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        context.errors.append(f"{path}: must be https://host[:port][/path], without user, query or fragment")
    elif parts.scheme.lower() != "https" and not local:
        context.errors.append(f"{path}: must be https; a credential is sent there")
    return url.rstrip("/")


def _file(context: Context, path: str, file: str | None) -> str:
    if file and not Path(file).is_file():
        context.errors.append(f"{path}: no such file: {file}")
    return file or ""


def _check_text(context: Context, path: str, value: str) -> None:
    """The value itself is never shown: it may be a secret."""
    if not value.isascii() or (value and not value.isprintable()) or value != value.strip():
        context.errors.append(f"{path}: must be printable ASCII without spaces at its ends (a line break in the file?)")
