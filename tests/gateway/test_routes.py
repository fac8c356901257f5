"""One raw path decides: what is served, what is malformed, in whose shape an error is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects import openai, registry
from fastgw.dialects.gemini.array import JsonArray
from fastgw.errors import GatewayError
from fastgw.gateway import routes


@pytest.mark.parametrize("prefix", [b"", b"/openai"])
@pytest.mark.parametrize(
    ("path", "op", "dialect"),
    [
        (b"/v1/chat/completions", "chat", openai.CHAT),
        (b"/v1/completions", "completions", openai.COMPLETIONS),
        (b"/v1/embeddings", "embeddings", openai.EMBEDDINGS),
        (b"/v1/responses", "chat", registry.RESPONSES),
    ],
)
def test_what_is_served(prefix, path, op, dialect):
    match = routes.PROXIED[prefix + path]
    assert (match.endpoint.op, match.endpoint.dialect, match.model) == (op, dialect, "")


@pytest.mark.parametrize("path", [b"/v1/messages", b"/anthropic/v1/messages"])
def test_anthropics_messages(path):
    match = routes.PROXIED[path]
    assert (match.endpoint.op, match.endpoint.dialect, match.model) == ("chat", registry.ANTHROPIC, "")
    assert match.endpoint.dialect.required == (b"model", b"messages", b"max_tokens")
    assert routes.family(path) == "anthropic"


def test_nothing_served_is_malformed():
    for path in (*routes.PROXIED, *routes.MODELS, routes.LIVE, routes.READY):
        assert not routes.malformed(path)


@pytest.mark.parametrize(
    ("path", "model", "op"),
    [
        (b"/openai/deployments/gpt-4o/chat/completions", "gpt-4o", "chat"),
        (b"/openai/deployments/a:b@c.d_e/completions", "a:b@c.d_e", "completions"),
        (b"/openai/deployments/" + b"x" * 128 + b"/embeddings", "x" * 128, "embeddings"),
    ],
)
def test_azures_shape_names_the_model(path, model, op):
    match = routes.named(path)
    assert (match.model, match.endpoint.op) == (model, op)


@pytest.mark.parametrize(
    "path",
    [
        b"/openai/deployments//chat/completions", b"/openai/deployments/a/b/chat/completions", b"/openai/deployments/a",
        b"/openai/deployments/a%2fb/chat/completions", b"/openai/deployments/a/chat/completions/",
        b"/openai/deployments/" + b"x" * 129 + b"/embeddings", b"/openai/deployments/a\n/embeddings",
        b"/openai/deployments/../embeddings", b"/openai/deployments/./embeddings",
        b"x/openai/deployments/a/embeddings", b"/openai/deployments/a/embeddings\n", b"/openai/deployments/a/images",
    ],
)  # fmt: skip
def test_what_only_looks_like_azures(path):
    assert routes.named(path) is None


@pytest.mark.parametrize("prefix", [b"/v1", b"/v1beta", b"/genai/v1", b"/genai/v1beta"])
@pytest.mark.parametrize("model", [b"gemini-2.5-pro", b"g", b"a:b@c.d_e", b"tuned/models/x", b"7" + b"x" * 255])
@pytest.mark.parametrize(("verb", "stream"), [(b"generateContent", False), (b"streamGenerateContent", True)])
def test_geminis_shape_names_the_model_and_whether_to_stream(prefix, model, verb, stream):
    path = prefix + b"/models/" + model + b":" + verb
    match = routes.named(path)
    assert match == routes.Match(routes.Endpoint("chat", registry.GEMINI), model.decode(), stream)
    assert not routes.malformed(path)
    assert routes.family(path) == "gemini"


@pytest.mark.parametrize(
    ("verb", "endpoint"),
    [
        (b"embedContent", routes.Endpoint("embeddings", registry.GEMINI_EMBED)),
        (b"batchEmbedContents", routes.Endpoint("embeddings", registry.GEMINI_BATCH_EMBED)),
        (b"countTokens", routes.Endpoint("count", registry.GEMINI_COUNT)),
    ],
)
def test_geminis_other_methods(verb, endpoint):
    for prefix in (b"/v1", b"/v1beta", b"/genai/v1", b"/genai/v1beta"):
        path = prefix + b"/models/a/b:" + verb
        assert routes.named(path) == routes.Match(endpoint, "a/b", stream=False)
        assert routes.family(path) == "gemini"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (b"/v1/messages/count_tokens", registry.ANTHROPIC_COUNT),
        (b"/anthropic/v1/messages/count_tokens", registry.ANTHROPIC_COUNT),
        (b"/v1/responses/input_tokens", registry.RESPONSES_COUNT),
        (b"/openai/v1/responses/input_tokens", registry.RESPONSES_COUNT),
    ],
)
def test_counting(path, dialect):
    assert routes.PROXIED[path] == routes.Match(routes.Endpoint("count", dialect))


def test_a_stream_is_written_as_its_path_asks():
    assert routes.form(b"key=1&alt=sse") is None
    assert isinstance(routes.form(b""), JsonArray)
    with pytest.raises(GatewayError, match="alt must be sse"):
        routes.form(b"alt=proto")


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/models/:generateContent", b"/v1/models/g", b"/v1/models/g:countTokensX", b"/v1/models/g:generatecontent",
        b"/v1/models/g:generateContent/", b"/v1/models/g:generateContent\n", b"/v1beta2/models/g:generateContent",
        b"/v2/models/g:generateContent", b"/genai/models/g:generateContent", b"/openai/v1/models/g:generateContent",
        b"/v1/models/g%2fx:generateContent", b"/v1/models/a//b:generateContent", b"/v1/models/../g:generateContent",
        b"/v1/models/a/./b:generateContent",
        b"/v1/models/-g:generateContent", b"/v1/models/g h:generateContent", b"/v1/models/\xc3\xa9:generateContent",
        b"/v1/models/" + b"x" * 257 + b":generateContent", b"x/v1/models/g:generateContent",
        b"/v1/models/g:generateContent?x", b"/v1/models/a/../../admin:generateContent",
    ],
)  # fmt: skip
def test_what_only_looks_like_geminis(path):
    assert routes.named(path) is None


@given(st.binary(max_size=24))
def test_a_model_in_a_path_can_be_read_in_one_way_only(name):
    for path in (b"/v1beta/models/" + name + b":generateContent", b"/openai/deployments/" + name + b"/embeddings"):
        match = routes.named(path)
        if match is not None:
            assert match.model.encode() == name
            assert not routes.malformed(path)


def test_responses_errors_are_openais():
    assert routes.family(b"/v1/responses") == "openai"
    assert routes.family(b"/v1/responses/resp_1") == "openai"


@pytest.mark.parametrize(
    "path",
    [
        b"", b"v1/models", b"//v1/models", b"/v1//models", b"/v1/./models", b"/v1/../admin", b"/..", b"/.", b"/v1/..",
        b"/v1/%2e%2e/x", b"/v1/models%00", b"/v1/models;x", b"/v1\\models", b"/v1/models?x", b"/v1/models#f",
        b"/v1/ models",
        b"/v1/\xc3\xa9", b"/v1/\x00", b"/v1/models\r\n", b"http://h/v1/models", b"*", b"/v1/models//",
    ],
)  # fmt: skip
def test_malformed_paths(path):
    assert routes.malformed(path)


@pytest.mark.parametrize(
    "path", [b"/", b"/v1/models", b"/v1/models/", b"/v1/models/a:b@c,d", b"/.well-known/x", b"/a..b"]
)
def test_plain_paths(path):
    assert not routes.malformed(path)


@given(st.binary(max_size=30))
def test_a_path_that_passes_has_one_reading(tail):
    path = b"/" + tail
    if not routes.malformed(path):
        assert not set(path) & set(b"%\\;?# \r\n\x00")
        assert b"//" not in path
        assert not {b".", b".."} & set(path.split(b"/"))


@pytest.mark.parametrize(
    ("path", "family"),
    [
        (b"/v1/chat/completions", "openai"), (b"/openai/v1/models", "openai"), (b"/v1/models", "openai"),
        (b"/v1/models/gpt", "openai"), (b"/", "openai"), (b"/v1/messages", "anthropic"),
        (b"/v1/messages/count_tokens", "anthropic"), (b"/anthropic/v1/messages", "anthropic"),
        (b"/v1beta/models/g:generateContent", "gemini"), (b"/v1/models/g:streamGenerateContent", "gemini"),
        (b"/genai/v1beta/models/g:embedContent", "gemini"),
    ],
)  # fmt: skip
def test_in_whose_shape_an_error_is_written(path, family):
    assert routes.family(path) == family


@pytest.mark.parametrize("prefix", routes.MODELS)
def test_one_model_is_asked_for_by_its_name(prefix):
    assert routes.model_in(prefix + b"/gpt-4o") == "gpt-4o"
    assert routes.model_in(prefix + b"/openai/gpt:4@x") == "openai/gpt:4@x"
    assert routes.model_in(prefix + b"/openai%2Fgpt-4o") == "openai/gpt-4o"
    for path in (prefix, prefix + b"x/y", b"/v1/chat/completions"):
        assert routes.model_in(path) is None


@pytest.mark.parametrize(
    "name", [b"..", b"a/../b", b"a%2F..%2Fb", b"a%2F%2Fb", b"a%2fb", b"%2e%2e", b"a%00", b"a;b", b"a\xc3\xa9", b"/a"]
)
def test_a_models_name_has_one_reading(name):
    assert routes.model_in(b"/v1/models/" + name) is None
