"""The OpenAI-compatible field serves from a config and from the environment, and the page about it is current."""

import pytest

from fastgw.dialects.registry import OPERATION_OF
from fastgw.plan import catalogue
from fastgw.providers import PROVIDERS, compatible, list_providers, show_provider
from tests.plan.support import compiled, refused
from tools import build_providers_doc

NAMED = [one for one in compatible.ROWS if one.base_url]
SWITCHED = [one for one in PROVIDERS.values() if one.key_env]
ISSUED = {
    *("openai", "azure", "azure_foundry", "mistral", "cohere", "groq", "deepseek", "xai", "openrouter", "together"),
    *("fireworks", "perplexity", "cerebras", "nvidia_nim", "huggingface", "databricks", "watsonx", "ollama", "vllm"),
    *("sglang", "lm_studio", "llama_cpp", "tgi"),
}


def kinds(rows):
    return pytest.mark.parametrize("one", rows, ids=[one.kind for one in rows])


@kinds(NAMED)
def test_a_vendor_with_an_address_needs_its_kind_and_key_alone(tmp_path, one):
    key = "api_key: sk-x" if one.key_required else ""
    text = (
        f"providers: {{up: {{kind: {one.kind}, {key}}}}}\nmodels: {{m: {{targets: [{{provider: up, model: a/b}}]}}}}\n"
    )
    upstream = compiled(tmp_path, text).upstreams["up"]
    base = f"{upstream.origin.scheme}://{upstream.origin.host}"
    assert one.base_url.startswith(base)
    path = one.base_url.removeprefix(base).removeprefix(f":{upstream.origin.port}")
    assert upstream.paths["openai_chat"] == f"{path}/chat/completions"
    assert upstream.auth_value == ("Bearer sk-x" if one.key_required else "")


@kinds([one for one in compatible.ROWS if not one.base_url])
def test_a_vendor_without_an_address_says_what_is_missing(tmp_path, one):
    model = "models: {m: {targets: [{provider: up, model: x}]}}\n"
    errors = refused(tmp_path, f"providers: {{up: {{kind: {one.kind}, api_key: sk-x}}}}\n{model}")
    assert errors == [f"providers.up.base_url: missing; {one.kind} has no fixed address"]
    url = "https://acme.example/base"
    plan = compiled(tmp_path, f"providers: {{up: {{kind: {one.kind}, api_key: sk-x, base_url: '{url}'}}}}\n{model}")
    assert plan.upstreams["up"].paths["openai_chat"].startswith("/base/")
    assert plan.upstreams["up"].paths["openai_chat"].endswith("/chat/completions")


@kinds(SWITCHED)
def test_a_key_in_the_environment_switches_its_vendor_on(tmp_path, one):
    place = {"AWS_REGION": "us-east-1"} if "{region}" in one.base_url else {}
    plan = compiled(tmp_path, environ={one.key_env: "sk-x", **place})
    assert list(plan.upstreams) == [one.kind]
    assert set(plan.wildcards) == {one.kind, "*"}


def test_variables_kept_for_other_ends_switch_nothing_on():
    assert not {"HF_TOKEN", "GITHUB_TOKEN", "WANDB_API_KEY"} & {one.key_env for one in PROVIDERS.values()}


def test_every_vendor_of_the_field_is_there_once():
    rows = [one.kind for one in compatible.ROWS]
    assert len(rows) == len(set(rows)) >= 25
    assert set(PROVIDERS) >= ISSUED
    assert len(PROVIDERS) == len(rows) + 10


def test_who_is_listed_can_be_shown():
    assert [show_provider(one.kind) for one in list_providers()] == list_providers()
    assert show_provider("nobody") is None
    assert all(one.title and one.docs.startswith("https://") for one in list_providers())


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
def test_those_with_a_dialect_of_their_own(kind):
    one = PROVIDERS[kind]
    assert one.base_url.startswith("https://")
    assert set(one.speaks) <= set(OPERATION_OF)
    assert not any(dialect.startswith("openai") for dialect in one.speaks)
    assert one.key_env
    assert catalogue.list_models(kind)


def test_what_their_apis_want_to_be_told():
    assert PROVIDERS["anthropic"].headers == {"anthropic-version": "2023-06-01"}
    assert PROVIDERS["gemini"].stream_speaks["gemini"].endswith(":streamGenerateContent?alt=sse")


def test_the_page_is_what_the_data_says():
    text = build_providers_doc.page()
    assert build_providers_doc.OUT.read_text() == text
    for one in list_providers():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{one.kind}` |"))
        assert line.endswith("| tested |" if one.tested else "| untested |")
        assert line.count("|") == 8
