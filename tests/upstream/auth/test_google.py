"""Google: the assertion of a service account is checked as Google would, and so is what other kinds of file lead to."""

import base64
import json
import time

import google.auth.compute_engine._metadata as metadata
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fastgw.plan.credentials import Google
from fastgw.upstream.auth import google as scheme
from fastgw.upstream.auth.base import AuthError, fetcher
from tests.support.endpoint import endpoint, refuse, token

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
EMAIL = "gateway@acme-1.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def granting(asked):
    """What Google's token endpoint does with an assertion: RFC 7523."""
    head, claims, signature = asked.form["assertion"].split(".")
    try:
        text = f"{head}.{claims}".encode()
        KEY.public_key().verify(decoded(signature), text, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    said = json.loads(decoded(claims))
    assert json.loads(decoded(head)) == {"typ": "JWT", "alg": "RS256", "kid": "key-1"}
    assert (asked.form["grant_type"], said["iss"], said["scope"]) == (GRANT, EMAIL, SCOPE)
    assert said["aud"].endswith("/token")
    assert said["iat"] - 60 <= time.time() <= said["exp"] <= said["iat"] + 3600
    return 200, {"access_token": "ya29.google-token", "expires_in": 3599, "token_type": "Bearer"}


def write(tmp_path, at, **changes):
    info = {
        "type": "service_account", "project_id": "acme-1", "private_key_id": "key-1", "private_key": PEM,
        "client_email": EMAIL, "token_uri": f"{at.url}/token",
    }  # fmt: skip
    file = tmp_path / "account.json"
    file.write_text(json.dumps({**info, **changes}))
    return Google(str(file))


def refused(credential, said):
    with pytest.raises(AuthError, match=said) as caught:
        fetcher(credential)()
    assert PEM[40:80] not in str(caught.value)


def test_a_service_account_proves_itself_and_gets_a_token(tmp_path):
    with endpoint(granting) as at:
        fresh = fetcher(write(tmp_path, at))()
        assert fresh.proof.secret == b"ya29.google-token"
        assert 3500 < fresh.life <= 3599
        assert len(at.asked) == 1


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    with endpoint(granting) as at:
        fetch = fetcher(write(tmp_path, at))
        fetch()
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write(tmp_path, at, private_key=other.decode())
        with pytest.raises(AuthError, match="invalid_grant"):
            fetch()


def test_the_environment_names_the_file(tmp_path, monkeypatch):
    with endpoint(granting) as at:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", write(tmp_path, at).credentials_file)
        assert fetcher(Google())().proof.secret == b"ya29.google-token"


def test_a_refusal_tells_its_code_alone(tmp_path):
    with endpoint(refuse(400, error="invalid_grant", error_description="account " + EMAIL)) as at:
        refused(write(tmp_path, at), r"^google-auth: invalid_grant$")


def test_a_service_that_is_not_there(tmp_path):
    with endpoint(granting) as at:
        credential = write(tmp_path, at)
    refused(credential, "could not be reached")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no credentials file"), ("[]", "is no credentials file"), ("{}", "is no credentials file"),
        ('{"type":"magic"}', "'magic' are not supported"),
        ('{"type":"service_account"}', "lacks something|google-auth"),
        ('{"type":"external_account","credential_source":{"executable":{}}}', "from a program"),
        ('{"type":"external_account"}', "lacks something"),
    ],
)  # fmt: skip
def test_files_of_no_use(tmp_path, text, said):
    (tmp_path / "file.json").write_text(text)
    refused(Google(str(tmp_path / "file.json")), said)


def test_a_file_that_has_gone(tmp_path):
    refused(Google(str(tmp_path / "none.json")), "cannot read")


def test_a_workload_identity_trades_the_platforms_token(tmp_path):
    (tmp_path / "oidc").write_text("the-platforms-token")

    def trading(asked):
        assert asked.form["subject_token"] == "the-platforms-token"
        assert asked.form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        assert asked.form["scope"] == SCOPE
        return 200, {
            "access_token": "federated", "expires_in": 3600, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }  # fmt: skip

    with endpoint(trading) as at:
        info = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{at.url}/v1/token",
            "credential_source": {"file": str(tmp_path / "oidc")},
        }
        (tmp_path / "pool.json").write_text(json.dumps(info))
        assert fetcher(Google(str(tmp_path / "pool.json")))().proof.secret == b"federated"


def test_a_user_who_signed_in(tmp_path):
    with endpoint(token("users")) as at:
        info = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        file = tmp_path / "user.json"
        file.write_text(json.dumps({**info, "token_uri": f"{at.url}/token"}))
        found = scheme._from_file(str(file))
        assert (found.refresh_token, list(found.scopes)) == ("r", [SCOPE])


def test_the_machines_own_account(monkeypatch):
    def serving(asked):
        assert asked.headers["metadata-flavor"] == "Google"
        if asked.path.endswith("/token"):
            return 200, {"access_token": "machine", "expires_in": 1800, "token_type": "Bearer"}
        if asked.path.endswith("project-id"):
            return 200, b"acme-1"
        return 200, {"email": EMAIL, "scopes": [SCOPE], "aliases": ["default"]}

    with endpoint(serving, {"metadata-flavor": "Google"}) as at:
        host = at.url.removeprefix("http://")
        monkeypatch.setattr(metadata, "_GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        fresh = fetcher(Google())()
        assert fresh.proof.secret == b"machine"
        assert 1700 < fresh.life <= 1800
