"""`fastgw providers test`: one real call for each operation, and a diagnosis where it fails."""

import asyncio
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from fastgw import cli, provider_check
from fastgw.providers import PROVIDERS
from tests.support.gateway import Mock

KEY = "sk-provider-check-canary-1"
MODELS = {
    "chat": "mock-small", "vectors": "mock-embedding", "gone": "mock-error-404", "busy": "mock-error-429",
    "refused": "mock-error-401", "html": "mock-html-502", "odd": "mock-badjson", "moved": "mock-redirect",
}  # fmt: skip


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    running = Mock(tmp_path_factory.mktemp("mock"), "--key-env", "MOCK_KEY", env={"MOCK_KEY": KEY})
    yield running
    running.stop()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command in a directory of its own, with no provider key in the environment."""
    for one in PROVIDERS.values():
        monkeypatch.delenv(one.key_env or "NONE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, config=None):
        if config is not None:
            (tmp_path / "fastgw.yaml").write_text(config)
        result = CliRunner().invoke(cli.main, ["providers", "test", *arguments])
        assert KEY not in result.output
        return result

    return run


def config(url, *models, kind="openai_compatible", key=KEY, more=""):
    lines = [f"  {one}: {{targets: [{{provider: up, model: {one}}}]}}" for one in models]
    provider = f'providers: {{up: {{kind: {kind}, base_url: "{url}", api_key: "{key}"{more}}}}}'
    return "\n".join([provider, *(["models:", *lines] if lines else []), ""])


def test_every_operation_that_has_a_model_is_asked_once(run, mock):
    before = mock.stats()["requests"]
    result = run("up", config=config(f"{mock.url}/v1", "mock-small", "mock-large", "mock-embedding"))
    assert result.exit_code == 0, result.output
    chat, vectors = result.output.splitlines()
    assert chat.startswith(f"[good] chat with mock-small (POST {mock.url}/v1/chat/completions): status 200 in ")
    assert "it works: " in chat
    assert vectors.startswith(f"[good] embeddings with mock-embedding (POST {mock.url}/v1/embeddings): status 200 in ")
    assert mock.stats()["requests"] == before + 2


@pytest.mark.parametrize(
    ("kind", "path"), [("anthropic", "/v1/messages"), ("gemini", "/v1beta/models/mock-small:generateContent")]
)
def test_a_vendor_is_asked_in_its_own_dialect(run, mock, kind, path):
    result = run("up", config=config(mock.url, "mock-small", kind=kind))
    assert result.exit_code == 0, result.output
    assert f"(POST {mock.url}{path}): status 200" in result.output
    assert "it works: " in result.output


def test_a_model_for_completions_is_asked_for_one(run, mock):
    result = run("up", config=config(f"{mock.url}/v1", "gpt-3.5-turbo-instruct", kind="openai"))
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        f"[good] completions with gpt-3.5-turbo-instruct (POST {mock.url}/v1/completions): status 200 in "
    )


def test_another_model_can_be_named(run, mock):
    result = run("up", "--model", "mock-large", config=config(f"{mock.url}/v1", "mock-small"))
    assert result.exit_code == 0
    assert "chat with mock-large " in result.output
    assert "mock-small" not in result.output


def test_without_a_model_the_list_of_models_is_asked_for(run, mock):
    result = run("up", config=config(f"{mock.url}/v1"))
    assert result.exit_code == 0, result.output
    assert f"[good] list of models (GET {mock.url}/v1/models): status 200" in result.output
    assert "--model" in result.output


def test_a_provider_of_the_environment_alone_can_be_tested(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    result = run("openai")
    assert result.exit_code == 1
    assert "[bad] list of models (GET https://api.openai.com:443/v1/models): " in result.output
    assert "the proxy if there is one" in result.output


@pytest.mark.parametrize(
    ("model", "said", "mend"),
    [
        (MODELS["gone"], "status 404", "check the model's name"),
        (MODELS["busy"], "status 429", "the key works"),
        (MODELS["refused"], "status 401", "api_key"),
        (MODELS["html"], "status 502", "the vendor's own trouble"),
        (MODELS["odd"], "cannot be read", "another kind of server"),
        (MODELS["moved"], "a redirect", "give the address it leads to"),
    ],
)
def test_what_is_wrong_is_said_with_how_to_mend_it(run, mock, model, said, mend):
    result = run("up", config=config(f"{mock.url}/v1", model))
    assert result.exit_code == 1
    finding, mending = result.output.splitlines()
    assert finding.startswith(f"[bad] chat with {model} ")
    assert said in finding
    assert mending.startswith("       mend: ")
    assert mend in mending


def test_a_wrong_key_is_told_and_not_shown(run, mock):
    wrong = "sk-wrong-canary-2"
    result = run("up", config=config(f"{mock.url}/v1", "mock-small", key=wrong))
    assert result.exit_code == 1
    assert "status 401" in result.output
    assert "api_key" in result.output
    assert wrong not in result.output


def test_a_name_that_does_not_resolve(run):
    result = run("up", config=config("http://nowhere.invalid/v1", "m"))
    assert result.exit_code == 1
    assert "cannot resolve nowhere.invalid" in result.output
    assert "name servers" in result.output


def test_nobody_listens(run):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        result = run("up", config=config(f"http://127.0.0.1:{holder.getsockname()[1]}/v1", "m"))
    assert result.exit_code == 1
    assert "the firewall" in result.output


def test_tls_where_there_is_none(run, mock):
    result = run("up", config=config(f"https://127.0.0.1:{mock.port}/v1", "m"))
    assert result.exit_code == 1
    assert "TLS failed" in result.output
    assert "`base_url` should say http" in result.output


def test_who_does_not_answer_in_time(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = run("up", "--timeout", "0.3", config=config(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "m"))
    assert result.exit_code == 1
    assert "--timeout" in result.output


class Echo(BaseHTTPRequestHandler):
    """Answers 400 with the caller's own credential and control characters in the message."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = f"\x1b[31mno {self.headers['authorization']}\nbad"
        body = json.dumps({"error": {"message": message}}).encode()
        self.send_response(400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_what_a_server_says_holds_no_secret_and_no_escape(run):
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        result = run("up", config=config(f"http://127.0.0.1:{server.server_port}/v1", "m"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert result.exit_code == 1
    assert "no Bearer *** bad" in result.output
    assert "\x1b" not in result.output


def test_exit_codes_for_what_cannot_be_asked(run):
    unknown = run("other", config=config("http://127.0.0.1:9/v1", "m"))
    assert unknown.exit_code == 2
    assert "there is no provider 'other'; known: up" in unknown.output
    broken = run("up", config="providers: {up: {kind: nobody}}\n")
    assert broken.exit_code == 1
    assert "providers.up.kind" in broken.output
    deployments = run("up", config=config("http://127.0.0.1:9", kind="azure"))
    assert deployments.exit_code == 2
    assert "name one with --model" in deployments.output


def test_the_request_is_one_the_vendor_takes(tmp_path):
    """Quirks and features hold here as on the data path."""
    file = tmp_path / "fastgw.yaml"
    file.write_text(config("http://127.0.0.1:9/v1", "m", kind="mistral", more=", quirks: {set: {safe_prompt: true}}"))
    plan = provider_check.plan_of(str(file))

    async def calls():
        client = provider_check.Client(asyncio.get_running_loop())
        try:
            return list(provider_check._calls(plan, client, plan.upstreams["up"], ""))
        finally:
            await client.close()

    (one,) = asyncio.run(calls())
    sent = json.loads(one.body)
    assert sent["max_tokens"] == provider_check.TOKENS
    assert sent["safe_prompt"] is True
    assert "max_completion_tokens" not in sent


def test_what_is_shown_of_a_kind(run):
    shown = CliRunner().invoke(cli.main, ["providers", "show", "mistral"]).output.splitlines()
    assert "tested: yes" in shown
    assert "renames max_completion_tokens to max_tokens, seed to random_seed" in shown
    assert any(line.startswith("leaves out logit_bias, logprobs") for line in shown)
    assert any(line.startswith("takes max_tokens, system_only") for line in shown)
    assert any(line.startswith("fix: `developer` goes as `system`") for line in shown)
    groq = CliRunner().invoke(cli.main, ["providers", "show", "groq"]).output
    assert "bounds n from 1 to 1" in groq
    gemini = CliRunner().invoke(cli.main, ["providers", "show", "gemini"]).output
    assert "of gemini-[3-9]: takes thinking_level" in gemini
