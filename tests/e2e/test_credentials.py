"""Providers whose credential expires or signs, through a real node: token services and vendors are on real sockets."""

import json
import time
from contextlib import ExitStack
from urllib.parse import quote

import anthropic
import openai
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.endpoint import endpoint, refuse, token, tokens
from tests.support.gateway import Mock, node, unique, until
from tests.support.scripted import chat_completion
from tests.support.sigv4 import given, signature

KEY = "fgw-credentials-0123456789abc"
GOOGLE = "ya29.planted-google-token-8Hs"
IBM_KEY, IBM_TOKEN = "ibm-planted-api-key-5Tn", "ibm-planted-iam-token-1Bd"
AZURE_SECRET, AZURE_TOKEN = "azure-planted-secret-3Xv", "azure-planted-token-6Rk"
AWS_SECRET, AWS_SESSION = "aws-planted-secret-access-key-0Lp", "aws-planted-session-token-4Yc"
PLANTED = (KEY, GOOGLE, IBM_KEY, IBM_TOKEN, AZURE_SECRET, AZURE_TOKEN, AWS_SECRET, AWS_SESSION)
ARN = "arn:aws:bedrock:us-west-2:1:inference-profile/us.anthropic.claude-v2:1"
MESSAGES = [{"role": "user", "content": "hi"}]
WATSONX_EVENTS = b"".join(
    b"id: %d\nevent: message\ndata: %b\n\n" % (number, json.dumps(chunk).encode())
    for number, chunk in enumerate(
        {"id": "chat-1", "model_id": "ibm/granite", "model": "ibm/granite", "created": 1, **more}
        for more in (
            {"choices": [{"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": "from watsonx"}}]},
            {"choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": ""}}]},
            {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 5, "total_tokens": 7}},
        )
    )
)


def account(directory, url):
    """A service account's key file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    info = {
        "type": "service_account", "project_id": "acme-1", "private_key_id": "k", "private_key": pem.decode(),
        "client_email": "gateway@acme-1.iam.gserviceaccount.com", "token_uri": f"{url}/token",
    }  # fmt: skip
    (directory / "account.json").write_text(json.dumps(info))
    return directory / "account.json"


def answering(asked):
    """A vendor of OpenAI's dialect, whole or as watsonx streams, and Bedrock's Converse."""
    if asked.path.endswith(":rawPredict"):
        return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "seen"}}
    if asked.path.endswith("/converse"):
        message = {"role": "assistant", "content": [{"text": "from bedrock"}]}
        usage = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}
        return 200, {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
    return 200, WATSONX_EVENTS if asked.path.endswith("chat_stream") else chat_completion("from a vendor")


class World:
    """Everything there is; `services` are the token services by scheme, `vendor` is who is not the mock."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("credentials")
    made = World()
    with ExitStack() as stack:
        mock = made.mock = Mock(directory, "--key-env", "MOCK_KEY", env={"MOCK_KEY": GOOGLE})
        stack.callback(mock.stop)
        services = made.services = {
            name: stack.enter_context(endpoint(token(value)))
            for name, value in (("google", GOOGLE), ("ibm", IBM_TOKEN), ("azure", AZURE_TOKEN))
        }
        services["broken"] = stack.enter_context(endpoint(refuse(401, error="invalid_client", error_description="no")))
        services["renewed"] = stack.enter_context(endpoint(tokens(3600)))
        vendor = made.vendor = stack.enter_context(endpoint(answering))
        google = f"auth: {{scheme: google, credentials_file: '{account(directory, services['google'].url)}'}}"
        place = f"base_url: '{mock.url}', project: acme-1, location: europe-west4, {google}"
        entra = f"scheme: azure_ad, tenant_id: t-1, client_id: c-1, client_secret: {AZURE_SECRET}"
        keys = f"access_key_id: AKIDPLANTED, secret_access_key: {AWS_SECRET}, session_token: {AWS_SESSION}"
        made.config = f"""
providers:
  gemini: {{kind: vertex, {place}}}
  claude: {{kind: vertex_anthropic, {place}}}
  seen: {{kind: vertex_anthropic, base_url: "{vendor.url}", project: acme-1, location: global, {google}}}
  ibm: {{kind: watsonx, base_url: "{vendor.url}", region: us-south, project: 11-22,
        auth: {{scheme: ibm, api_key: {IBM_KEY}, url: "{services["ibm"].url}/identity/token"}}}}
  azure: {{kind: azure, base_url: "{vendor.url}", auth: {{{entra}, authority: "{services["azure"].url}"}}}}
  aws: {{kind: openai_compatible, base_url: "{vendor.url}/v1",
        auth: {{scheme: aws, region: eu-west-1, service: execute-api, {keys}}}}}
  bedrock: {{kind: bedrock, base_url: "{vendor.url}", region: us-west-2, auth: {{scheme: aws, {keys}}}}}
  broken: {{kind: azure, base_url: "{vendor.url}", auth: {{{entra}, authority: "{services["broken"].url}"}}}}
  renewed: {{kind: azure, base_url: "{vendor.url}", auth: {{{entra}, authority: "{services["renewed"].url}"}}}}
models:
  gemini: {{targets: [{{provider: gemini, model: mock-small}}]}}
  claude: {{targets: [{{provider: claude, model: mock-small}}]}}
  claude-seen: {{targets: [{{provider: seen, model: claude-x@1}}]}}
  ibm: {{targets: [{{provider: ibm, model: ibm/granite}}]}}
  azure: {{targets: [{{provider: azure, model: gpt}}]}}
  aws: {{targets: [{{provider: aws, model: m}}]}}
  bedrock: {{targets: [{{provider: bedrock, model: "{ARN}"}}]}}
  broken: {{targets: [{{provider: broken, model: m}}], timeout: {{connect: 300ms}}}}
  rescued:
    targets: [{{provider: broken, model: m}}, {{provider: aws, model: m, priority: 2}}]
    balance: priority
    timeout: {{connect: 300ms}}
  renewed: {{targets: [{{provider: renewed, model: m}}]}}
keys: [{{name: k, secret: {KEY}}}]
log: {{level: debug}}
"""
        made.node = stack.enter_context(node(directory / "node", made.config, env={"NO_PROXY": "*"}))
        made.client = stack.enter_context(
            openai.OpenAI(api_key=KEY, base_url=f"{made.node.url}/v1", max_retries=0, timeout=20)
        )
        yield made
        assert not made.node.log("internal_error"), made.node.log("internal_error")


def text_of(stream):
    with stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def last(world):
    return world.vendor.asked[-1]


@pytest.mark.parametrize("model", ["gemini", "claude"])
def test_vertex_answers_an_openai_client(world, model):
    raw = world.client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert "x-fastgw-dropped" not in raw.headers
    assert raw.headers["x-fastgw-target"] == f"{model}/mock-small"
    assert text_of(world.client.chat.completions.create(model=model, messages=MESSAGES, stream=True))


def test_claude_on_vertex_passes_anthropics_own_dialect(world):
    with anthropic.Anthropic(api_key=KEY, base_url=world.node.url, max_retries=0) as client:
        ask = {"model": "claude", "max_tokens": 50, "messages": MESSAGES}
        raw = client.messages.with_raw_response.create(**ask)
        assert raw.parse().content[0].text
        assert "x-fastgw-dropped" not in raw.headers
        with client.messages.stream(**ask) as stream:
            assert stream.get_final_text()


def test_claude_on_vertex_gets_no_headers_of_anthropics(world):
    with anthropic.Anthropic(api_key=KEY, base_url=world.node.url, max_retries=0) as client:
        beta = {"anthropic-beta": "context-1m-2025-08-07"}
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(model="claude-seen", max_tokens=5, messages=MESSAGES, extra_headers=beta)
    asked = last(world)
    assert asked.path == "/v1/projects/acme-1/locations/global/publishers/anthropic/models/claude-x%401:rawPredict"
    assert asked.headers["authorization"] == f"Bearer {GOOGLE}"
    assert [name for name in asked.headers if name.startswith(("anthropic", "x-api", "x-goog"))] == []
    assert asked.json() == {"max_tokens": 5, "messages": MESSAGES, "anthropic_version": "vertex-2023-10-16"}


def test_both_of_google_share_one_token_fetched_once(world):
    assert len(world.services["google"].asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_watsonx(world, stream):
    more = {"stream_options": {"include_usage": True}} if stream else {}
    raw = world.client.chat.completions.with_raw_response.create(model="ibm", messages=MESSAGES, stream=stream, **more)
    if stream:
        chunks = list(raw.parse())
        assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "from watsonx"
        assert chunks[-1].usage.total_tokens == 7
    else:
        assert raw.parse().choices[0].message.content == "from a vendor"
    asked = last(world)
    assert asked.path == ("/ml/v1/text/chat_stream" if stream else "/ml/v1/text/chat")
    assert asked.query == {"version": "2024-10-08"}
    assert asked.headers["authorization"] == f"Bearer {IBM_TOKEN}"
    assert asked.json() == {"messages": MESSAGES, "model_id": "ibm/granite", "project_id": "11-22"}


def test_azure_takes_a_token_in_place_of_its_key(world):
    world.client.chat.completions.create(model="azure", messages=MESSAGES)
    asked = last(world)
    assert asked.path == "/openai/deployments/gpt/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {AZURE_TOKEN}"
    assert "api-key" not in asked.headers


def test_a_request_for_aws_is_signed_as_it_is_sent(world):
    world.client.chat.completions.create(model="aws", messages=[{"role": "user", "content": "h\u00e9 \u4f60"}])
    asked = last(world)
    key, _, region, service, names, sent = given(asked.head)
    assert (key, region, service) == ("AKIDPLANTED", "eu-west-1", "execute-api")
    assert sent == signature(asked.head, asked.body, AWS_SECRET)
    assert sent != signature(asked.head, asked.body + b" ", AWS_SECRET)
    assert set(names.split(";")) == {"content-type", "host", "x-amz-date", "x-amz-security-token"}
    assert asked.headers["x-amz-security-token"] == AWS_SESSION


def test_a_bedrock_model_by_its_arn_is_signed_too(world):
    answer = world.client.chat.completions.create(model="bedrock", messages=MESSAGES)
    assert answer.choices[0].message.content == "from bedrock"
    asked = last(world)
    assert asked.path == f"/model/{quote(ARN, safe='')}/converse"
    assert given(asked.head)[2:4] == ("us-west-2", "bedrock")
    assert given(asked.head)[-1] == signature(asked.head, asked.body, AWS_SECRET)


def test_without_a_token_it_is_said_in_time_what_failed(world):
    began, before = time.monotonic(), len(world.vendor.asked)
    with pytest.raises(openai.APIStatusError) as caught:
        world.client.chat.completions.create(model="broken", messages=MESSAGES)
    assert time.monotonic() - began < 5
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth_failed")
    assert "answered 401 invalid_client" in caught.value.message
    assert len(world.vendor.asked) == before
    (line, *_) = world.node.log("credential_not_renewed")
    assert (line["provider"], line["scheme"], line["old_one_serves"]) == ("broken", "azure_ad", False)
    until(lambda: world.node.metrics()["fastgw_credential_failures_total"] > 0)


def test_another_target_is_tried_then(world):
    label = unique()
    raw = world.client.chat.completions.with_raw_response.create(
        model="rescued", messages=MESSAGES, extra_headers={"x-request-id": label}
    )
    assert raw.headers["x-fastgw-target"] == "aws/m"
    attempts = world.node.record(label)["attempts"]
    assert [(one["provider"], one["reason"]) for one in attempts] == [("broken", "auth"), ("aws", "")]


@pytest.mark.slow
def test_a_vendor_that_refuses_the_token_gets_a_new_one(world):
    def choosy(asked):
        good = asked.headers["authorization"] == "Bearer token-2"
        return (200, chat_completion()) if good else (401, {"error": {"message": asked.headers["authorization"]}})

    world.vendor.say(choosy)
    errors = []
    try:

        def served():
            # A token just fetched is not fetched anew, so this takes until the first is some seconds old.
            try:
                return world.client.chat.completions.create(model="renewed", messages=MESSAGES)
            except openai.APIStatusError as error:
                errors.append((error.status_code, error.code, "token-1" in str(error)))
                time.sleep(0.2)
                return None

        assert until(served, 15)
    finally:
        world.vendor.say(answering)
    assert set(errors) == {(502, "upstream_auth_failed", False)}
    assert len(world.services["renewed"].asked) == 2


def test_a_new_config_keeps_the_tokens(world):
    before = {name: len(one.asked) for name, one in world.services.items() if name != "broken"}
    world.node.write_config(
        world.config.replace("models:\n", "models:\n  more: {targets: [{provider: azure, model: g}]}\n")
    )
    world.node.wait_revision(2)
    world.client.chat.completions.create(model="more", messages=MESSAGES)
    assert last(world).headers["authorization"] == f"Bearer {AZURE_TOKEN}"
    assert world.client.chat.completions.create(model="gemini", messages=MESSAGES).choices
    assert {name: len(one.asked) for name, one in world.services.items() if name != "broken"} == before


def test_no_secret_is_anywhere_it_should_not_be(world):
    told = world.node.stderr() + json.dumps(world.node.records()) + world.node.console("GET", "/metrics")[2].decode()
    told += (world.node.data_dir / "status.json").read_text()
    assert [secret for secret in PLANTED if secret in told] == []
    assert "PRIVATE KEY" not in told
