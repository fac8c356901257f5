"""Microsoft Entra ID: each proof as its page has it, checked where the token is given."""

import base64
import datetime
import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from fastgw.plan.credentials import AzureAd
from fastgw.upstream.auth.azure_ad import certified
from fastgw.upstream.auth.base import AuthError, fetcher
from tests.support.endpoint import endpoint, refuse, token

TENANT, CLIENT, SECRET = "0f1e-tenant", "1c2d-client", "azure-planted-secret-7Zq"
SCOPE = "https://cognitiveservices.azure.com/.default"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def application(at, **proof):
    return AzureAd(tenant_id=TENANT, client_id=CLIENT, scope=SCOPE, authority=at.url, **proof)


def asked_for(at):
    (asked,) = at.asked
    assert (asked.method, asked.path) == ("POST", f"/{TENANT}/oauth2/v2.0/token")
    assert (asked.form["grant_type"], asked.form["client_id"]) == ("client_credentials", CLIENT)
    assert asked.form["scope"] == SCOPE
    return asked.form


def test_a_secret():
    with endpoint(token("entra", 3599)) as at:
        fresh = fetcher(application(at, client_secret=SECRET))()
        assert (fresh.proof.secret, fresh.life) == (b"entra", 3599.0)
        assert asked_for(at)["client_secret"] == SECRET


def test_a_federated_token_is_read_each_time(tmp_path):
    file = tmp_path / "token"
    with endpoint(token()) as at:
        fetch = fetcher(application(at, federated_token_file=str(file)))
        with pytest.raises(AuthError, match="cannot read"):
            fetch()
        file.write_text("kubernetes-1\n")
        fetch()
        file.write_text("kubernetes-2\n")
        fetch()
        assert [one.form["client_assertion"] for one in at.asked] == ["kubernetes-1", "kubernetes-2"]
        assert at.asked[0].form["client_assertion_type"] == ASSERTION


def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256())


def pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain) + certificate(
        key
    ).public_bytes(serialization.Encoding.PEM)


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_certificate_signs_an_assertion(tmp_path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "app.pem"
    file.write_bytes(pem(key))
    with endpoint(token()) as at:
        fetcher(application(at, certificate_file=str(file)))()
        form = asked_for(at)
        head, claims, signature = form["client_assertion"].split(".")
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), scheme, hashes.SHA256())
        loaded = x509.load_pem_x509_certificate(file.read_bytes())
        header = json.loads(decoded(head))
        assert decoded(header.pop("x5t#S256")) == loaded.fingerprint(hashes.SHA256())
        assert header == {"alg": "PS256", "typ": "JWT"}
        said = json.loads(decoded(claims))
        assert said["aud"] == f"{at.url}/{TENANT}/oauth2/v2.0/token"
        assert said["iss"] == said["sub"] == CLIENT
        assert said["nbf"] <= time.time() + 1 < said["exp"] <= said["nbf"] + 600
        assert form["client_assertion_type"] == ASSERTION
        assert "client_secret" not in form


def test_certificates_of_no_use():
    for bad in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(AuthError, match="must hold a certificate and its key"):
            certified(bad, CLIENT, "https://x", 0)
    with pytest.raises(AuthError, match="RSA"):
        certified(pem(ec.generate_private_key(ec.SECP256R1())), CLIENT, "https://x", 0)


def test_the_identity_of_a_virtual_machine(monkeypatch):
    with endpoint(lambda asked: (200, {"access_token": "vm", "expires_in": "86399", "expires_on": "1"})) as at:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", at.url)
        fresh = fetcher(AzureAd(client_id=CLIENT, scope=SCOPE))()
        assert (fresh.proof.secret, fresh.life) == (b"vm", 86399.0)
        (asked,) = at.asked
        assert (asked.method, asked.path, asked.headers["metadata"]) == (
            "GET",
            "/metadata/identity/oauth2/token",
            "true",
        )
        assert asked.query == {
            "api-version": "2018-02-01", "resource": "https://cognitiveservices.azure.com", "client_id": CLIENT
        }  # fmt: skip


def test_the_identity_of_an_app_service(monkeypatch):
    until = str(int(time.time()) + 500)
    with endpoint(lambda asked: (200, {"access_token": "app", "expires_on": until})) as at:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{at.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", SECRET)
        fresh = fetcher(AzureAd(scope=SCOPE))()
        assert fresh.proof.secret == b"app"
        assert 490 < fresh.life <= 500
        assert at.asked[0].headers["x-identity-header"] == SECRET
        assert at.asked[0].query["api-version"] == "2019-08-01"
        at.say(lambda asked: (200, {"access_token": "app"}))
        with pytest.raises(AuthError, match="how long"):
            fetcher(AzureAd(scope=SCOPE))()


def test_a_refusal_tells_its_code_alone():
    with endpoint(refuse(401, error="invalid_client", error_description=f"AADSTS7000215 {SECRET}")) as at:
        host = at.url.removeprefix("http://")
        with pytest.raises(AuthError) as caught:
            fetcher(application(at, client_secret=SECRET))()
        assert str(caught.value) == f"{host} answered 401 invalid_client"
        assert SECRET not in repr(application(at, client_secret=SECRET))
