"""Bedrock's row: where it is, and what is known of its models by their names."""

import pytest

from fastgw.providers import bedrock, quirks
from tests.plan.support import compiled, refused

CONFIG = (
    "providers: {{aws: {{kind: bedrock, api_key: k{more}}}}}\nmodels: {{m: {{targets: [{{provider: aws, model: x}}]}}}}"
)
NEWER = frozenset({"adaptive_thinking", "effort_xhigh", "no_temperature"})


@pytest.mark.parametrize(
    ("more", "environ"),
    [
        (", region: eu-west-1", {}),
        ("", {"AWS_REGION": "eu-west-1"}),
        ("", {"AWS_DEFAULT_REGION": "eu-west-1"}),
        (", region: eu-west-1", {"AWS_REGION": "us-east-1"}),
    ],
)
def test_where_it_is(tmp_path, more, environ):
    upstream = compiled(tmp_path, CONFIG.format(more=more), environ=environ).upstreams["aws"]
    assert (upstream.origin.host, upstream.origin.port) == ("bedrock-runtime.eu-west-1.amazonaws.com", 443)
    assert upstream.paths == {"bedrock_converse": "/model/{model}/converse"}
    assert upstream.stream_paths == {"bedrock_converse": "/model/{model}/converse-stream"}
    assert (upstream.auth_header, upstream.auth_value) == ("authorization", "Bearer k")


def test_it_needs_a_region(tmp_path):
    assert any("providers.aws.region: missing" in error for error in refused(tmp_path, CONFIG.format(more="")))


@pytest.mark.parametrize(
    ("model", "features"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", frozenset()),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", frozenset()),
        ("global.anthropic.claude-opus-4-6-v1", frozenset({"adaptive_thinking"})),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-7", NEWER),
        ("us.anthropic.claude-opus-4-8", NEWER),
        ("meta.claude-opus-4-8", frozenset()),
    ],
)
def test_what_its_models_differ_in(model, features):
    one = bedrock.PROVIDER
    assert quirks.traits(one.quirks, one.models, quirks.NONE, model).features == features
