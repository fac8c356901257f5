"""Which provider what is kept goes to: by `pass_through`, and for responses by what a provider speaks."""

import pytest

from tests.plan.support import compiled, refused

URL = "base_url: 'http://127.0.0.1:9/v1'"
KEYS = "keys: [{name: a, secret: fgw-secret-a, pass_through: true}, {name: b, secret: fgw-secret-b}]\n"


def providers(**written):
    rows = ", ".join(f"{name}: {{api_key: k, {one}}}" for name, one in written.items())
    return f"providers: {{{rows}}}\n{KEYS}"


def test_nothing_is_switched_on_by_itself(tmp_path):
    plan = compiled(tmp_path, providers(one="kind: openai", two="kind: gemini", three="kind: anthropic"))
    assert set(plan.accounts) == {"responses/one"}
    assert [key.pass_through for key in plan.keys] == [True, False]


def test_families_go_to_whom_they_are_switched_on_at(tmp_path):
    text = providers(
        one="kind: openai, pass_through: [files, batches]", two="kind: anthropic, pass_through: [files]",
        three=f"kind: openai_compatible, {URL}, pass_through: [assistants]", four="kind: gemini, pass_through: [files]",
    )  # fmt: skip
    plan = compiled(tmp_path, text)
    found = {name: model.targets[0].upstream for name, model in plan.accounts.items()}
    assert found == {
        "openai/files": "one", "openai/batches": "one", "openai/assistants": "three", "anthropic/files": "two",
        "gemini/files": "four", "responses/one": "one",
    }  # fmt: skip
    assert plan.accounts["openai/files"].name == "(files)"
    assert plan.accounts["openai/files"].retry.attempts == 1
    assert plan.upstreams["three"].keeps == "/v1/{path}"
    assert plan.upstreams["four"].keeps == "/{path}"


@pytest.mark.parametrize(
    ("one", "two", "error"),
    [
        ("kind: openai, pass_through: [files]", f"kind: openai_compatible, {URL}, pass_through: [files]",
         "providers.two.pass_through: 'one' has 'files' already; let one of the two have it"),
        ("kind: openai, pass_through: [files, messages]", "kind: gemini",
         "providers.one.pass_through[1]: unknown 'messages'; known are files, uploads, batches, fine_tuning, "
         "vector_stores, assistants, threads, conversations, containers, evals"),
        ("kind: groq, pass_through: [files]", "kind: gemini",
         "providers.one.pass_through[0]: unknown 'files'; groq has nothing to pass on"),
        ("kind: anthropic, pass_through: [assistants]", "kind: gemini",
         "providers.one.pass_through[0]: unknown 'assistants'; known are files, batches"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, one, two, error):
    assert refused(tmp_path, providers(one=one, two=two)) == [error]


def test_paths_of_what_is_passed_on(tmp_path):
    plan = compiled(
        tmp_path,
        providers(one="kind: azure, base_url: 'https://x.openai.azure.com', pass_through: [files]", two="kind: gemini"),
    )
    up = plan.upstreams["one"]
    assert up.passes["images/generations"] == ("/openai/deployments/{model}/images/generations?api-version=2024-10-21")
    assert up.keeps == "/openai/{path}?api-version=2024-10-21"
    assert plan.upstreams["two"].passes["predict"] == "/v1beta/models/{model}:predict"
