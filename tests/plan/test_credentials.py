"""`auth`, `project`, `location` and `region` of a provider: what compiles to what, and what is said of mistakes."""

import re
from pathlib import Path

import msgspec
import pytest

from fastgw.plan import file as plan_file
from fastgw.plan.compile import credentials
from fastgw.plan.credentials import Aws, AzureAd, Google, Ibm
from fastgw.upstream.auth import refresh
from fastgw.upstream.auth.base import SCHEMES
from fastgw.upstream.auth.tokens import TIMEOUT_S
from tests.plan.support import compiled, refused

PAGE = (Path(__file__).parents[2] / "docs" / "credentials.md").read_text()
MODEL_OF = "models: {m: {targets: [{provider: openai, model: m}]}}\n"

MODEL = "models: {m: {targets: [{provider: up, model: m}]}}\n"
VERTEX = "kind: vertex, project: acme-1, location: europe-west4"
AZURE = "kind: azure, base_url: 'https://acme.openai.azure.com'"
ENTRA = "scheme: azure_ad, tenant_id: t-1, client_id: c-1"
PLANTED = "planted-secret-3Kd8"


def text(fields):
    return f"providers: {{up: {{{fields}}}}}\n{MODEL}"


def up(tmp_path, fields, **more):
    return compiled(tmp_path, text(fields), **more).upstreams["up"]


def errors(tmp_path, fields, **more):
    return [error.removeprefix("providers.up.") for error in refused(tmp_path, text(fields), **more)]


def test_a_fixed_key_is_what_it_always_was(tmp_path):
    found = up(tmp_path, "kind: openai, api_key: sk-x")
    assert found.credential is None
    assert (found.auth_header, found.auth_value) == ("authorization", "Bearer sk-x")


def test_google(tmp_path):
    found = up(tmp_path, VERTEX)
    assert (found.credential, found.auth_header, found.auth_value) == (Google(), "", "")
    file = tmp_path / "key.json"
    file.write_text("{}")
    found = up(tmp_path, f"{VERTEX}, auth: {{scheme: google, credentials_file: '{file}'}}")
    assert found.credential == Google(str(file))
    assert errors(tmp_path, f"{VERTEX}, auth: {{scheme: google, credentials_file: /none.json}}") == [
        "auth.credentials_file: no such file: /none.json"
    ]
    found = up(tmp_path, f"{VERTEX}, api_key: AIza-x")
    assert (found.credential, found.auth_header, found.auth_value) == (None, "x-goog-api-key", "AIza-x")


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"), ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"), ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("kind", "publisher"), [("vertex", "google"), ("vertex_anthropic", "anthropic")])
def test_where_vertex_is(tmp_path, location, host, kind, publisher):
    found = up(tmp_path, f"kind: {kind}, project: acme-1, location: {location}")
    assert (found.origin.scheme, found.origin.host, found.origin.port) == ("https", host, 443)
    base = f"/v1/projects/acme-1/locations/{location}/publishers/{publisher}/models/{{model}}:"
    ((whole,), (stream,)) = (found.paths.values(), found.stream_paths.values())
    methods = ("generateContent", "streamGenerateContent?alt=sse")
    assert (whole, stream) == tuple(
        base + one for one in (methods if kind == "vertex" else ("rawPredict", "streamRawPredict"))
    )


def test_an_address_of_the_operators_may_have_parts_too(tmp_path):
    found = up(tmp_path, f"{VERTEX}, base_url: 'https://{{location}}.proxy.example/{{project}}'")
    assert found.origin.host == "europe-west4.proxy.example"
    assert found.paths["gemini"].startswith("/acme-1/v1/projects/acme-1/")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("kind: vertex", ["location: missing; vertex needs it", "project: missing; vertex needs it"]),
        ("kind: vertex, project: 'a/b', location: x", ["project: must be 1 to 128 letters"]),
        ("kind: vertex, project: a, location: 'x.evil.example/'", ["location: must be 1 to 128 letters"]),
        ("kind: watsonx, api_key: k", ["region: missing", "project: missing"]),
        ("kind: watsonx, region: r, project: p", ["api_key: missing"]),
        ("kind: watsonx, region: r, project: p, auth: {scheme: ibm}", ["auth.api_key: missing"]),
        ("kind: watsonx, region: r, project: p, auth: {scheme: ibm, api_key: ''}", ["auth.api_key: missing"]),
        (f"{VERTEX}, api_key: a, auth: {{scheme: google}}", ["api_key: give it or `auth`, not both"]),
        (f"{VERTEX}, auth: {{scheme: gcp}}", ["auth.scheme: unknown 'gcp'; known are aws, google, azure_ad, ibm"]),
        (f"{VERTEX}, auth: {{}}", ["auth.scheme: missing; known are aws"]),
        (f"{VERTEX}, auth: google", ["auth: expected a mapping, got str"]),
        (f"{VERTEX}, auth: {{scheme: google, scopes: x}}", ["auth.scopes: unknown field"]),
        (AZURE, ["api_key: missing"]),
        (f"{AZURE}, auth: {{{ENTRA}}}", ["auth: give one of client_secret, certificate_file"]),
        (f"{AZURE}, auth: {{{ENTRA}, client_secret: s, managed_identity: true}}", ["auth: give one of"]),
        (f"{AZURE}, auth: {{scheme: azure_ad, client_secret: s}}", ["auth.tenant_id: miss", "auth.client_id: miss"]),
        (f"{AZURE}, auth: {{{ENTRA}/x, client_secret: s}}", ["auth.client_id: must be letters"]),
        (f"{AZURE}, auth: {{{ENTRA}, certificate_file: /none.pem}}", ["auth.certificate_file: no such file"]),
        (f"{AZURE}, auth: {{{ENTRA}, client_secret: s, authority: 'http://x.example'}}", ["auth.authority: must be"]),
        (f"{AZURE}, auth: {{{ENTRA}, client_secret: s, authority: 'https://u@x'}}", ["auth.authority: must be https://h"]),
        (f'{AZURE}, auth: {{{ENTRA}, client_secret: "{PLANTED}\\n"}}', ["auth.client_secret: must be printable"]),
    ],
)  # fmt: skip
def test_what_is_said_of_mistakes(tmp_path, fields, said):
    found = errors(tmp_path, fields)
    assert len(found) == len(said), found
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found
    assert PLANTED not in str(found)


def test_azure_ad(tmp_path):
    found = up(tmp_path, f"{AZURE}, auth: {{{ENTRA}, client_secret: {PLANTED}}}")
    assert found.credential == AzureAd(
        "t-1",
        "c-1",
        PLANTED,
        "",
        "",
        "https://cognitiveservices.azure.com/.default",
        "https://login.microsoftonline.com",
    )
    assert (found.auth_header, found.auth_value) == ("", "")
    assert PLANTED not in repr(found)
    found = up(
        tmp_path, "kind: azure_foundry, base_url: 'https://a.b', auth: {scheme: azure_ad, managed_identity: true}"
    )
    assert found.credential is not None
    assert not found.credential.client_secret


def test_ibm(tmp_path):
    fields = "kind: watsonx, region: eu-de, project: 1-2-3"
    found = up(tmp_path, f"{fields}, api_key: {PLANTED}")
    assert found.credential == Ibm(PLANTED, "https://iam.cloud.ibm.com/identity/token")
    assert (found.auth_header, found.auth_value) == ("", "")
    assert found.origin.host == "eu-de.ml.cloud.ibm.com"
    assert found.paths == {"openai_chat": "/ml/v1/text/chat?version=2024-10-08"}
    assert found.stream_paths == {"openai_chat": "/ml/v1/text/chat_stream?version=2024-10-08"}
    assert found.quirks.set == {"project_id": '"1-2-3"'}
    found = up(tmp_path, f"{fields}, auth: {{scheme: ibm, api_key: k, url: 'http://127.0.0.1:9/'}}")
    assert found.credential == Ibm("k", "http://127.0.0.1:9")


SIGNED = "kind: openai_compatible, base_url: 'https://a.b', auth: {scheme: aws%s}"


def test_bedrock_is_where_its_region_is(tmp_path):
    assert errors(tmp_path, "kind: bedrock") == [
        "auth.region: missing; requests are signed for one",
        "region: missing; bedrock needs it: where it is served (or set AWS_REGION)",
    ]
    for fields, environ in (
        ("kind: bedrock, region: us-west-2", {}), ("kind: bedrock", {"AWS_REGION": "us-west-2"}),
        ("kind: bedrock, auth: {scheme: aws, region: us-west-2}", {"AWS_REGION": "us-east-1"}),
    ):  # fmt: skip
        found = up(tmp_path, fields, environ=environ)
        assert found.origin.host == "bedrock-runtime.us-west-2.amazonaws.com"
        assert found.credential == Aws("us-west-2")
    found = up(tmp_path, "kind: bedrock, region: us-west-2, api_key: k")
    assert (found.credential, found.auth_value) == (None, "Bearer k")


def test_aws(tmp_path):
    keys = f", access_key_id: AKID, secret_access_key: {PLANTED}, region: us-east-1, service: execute-api"
    found = up(tmp_path, SIGNED % keys)
    assert found.credential == Aws("us-east-1", "execute-api", "AKID", PLANTED)
    assert PLANTED not in repr(found)
    found = up(tmp_path, SIGNED % "", environ={"AWS_REGION": "eu-west-1"})
    assert found.credential == Aws("eu-west-1")
    assert errors(tmp_path, SIGNED % "") == ["auth.region: missing; requests are signed for one"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (", region: r, access_key_id: a", "belong together"),
        (", region: r, session_token: t", "needs `access_key_id`"),
        (", region: r, profile: p, access_key_id: a, secret_access_key: b", "not both"),
        (", region: 'r/x'", "auth.region: must be letters"), (", region: r, service: ''", "auth.service: missing"),
    ],
)  # fmt: skip
def test_aws_keys_that_do_not_fit(tmp_path, fields, said):
    (error,) = errors(tmp_path, SIGNED % fields)
    assert said in error


@pytest.mark.parametrize(("scheme", "fields"), [("aws", SIGNED % ", region: r"), ("google", VERTEX)])
def test_a_package_that_is_not_there(tmp_path, monkeypatch, scheme, fields):
    monkeypatch.setitem(credentials.PACKAGES, scheme, ("no_such_package.at_all",))
    (error,) = errors(tmp_path, fields)
    said = f"auth: `{scheme}` needs a package that is not here: pip install 'fastgw[{scheme}]'"
    assert error == said + ("" if "auth:" in fields else ", or give `api_key`")


def test_the_example_of_the_page_compiles(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    file = tmp_path / "gateway.json"
    file.write_text("{}")
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "value-1")
    plan = compiled(tmp_path, example.replace("/run/secrets/gateway.json", str(file)) + MODEL_OF, environ=environ)
    schemes = {name: type(one.credential).__name__ for name, one in plan.upstreams.items()}
    assert schemes == {
        "openai": "NoneType", "gemini": "Google", "claude": "Google", "azure": "AzureAd", "foundry": "AzureAd",
        "watsonx": "Ibm", "behind_aws": "Aws",
    }  # fmt: skip


def test_the_page_has_every_scheme_and_the_numbers_of_the_code():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(SCHEMES)
    assert all(f"fastgw[{scheme}]" in PAGE for scheme in credentials.PACKAGES)
    assert (refresh.RENEW_AT, "four fifths" in PAGE) == (0.8, True)
    assert (refresh.RETRY_FIRST_S, refresh.RETRY_MOST_S) == (0.5, 30.0)
    assert "after half a second" in PAGE
    assert "every 30 seconds" in PAGE
    assert (refresh.REFUSED_S, "five seconds" in PAGE) == (5.0, True)
    assert (refresh.REREAD_S, "every ten minutes" in PAGE) == (600.0, True)
    assert (TIMEOUT_S, "after ten seconds" in PAGE) == (10.0, True)


def test_a_plan_file_keeps_them(tmp_path):
    text = f"providers:\n  up: {{{VERTEX}}}\n  az: {{{AZURE}, auth: {{{ENTRA}, client_secret: {PLANTED}}}}}\n{MODEL}"
    plan = compiled(tmp_path, text)
    plan_file.write(tmp_path / "plan", plan)
    read = plan_file.read(tmp_path / "plan")
    assert {name: one.credential for name, one in read.upstreams.items()} == {
        name: one.credential for name, one in plan.upstreams.items()
    }
    assert isinstance(read.upstreams["az"].credential, AzureAd)
    assert PLANTED not in repr(read)
    assert msgspec.json.encode(plan.upstreams["up"].credential) == b'{"scheme":"google","credentials_file":""}'
