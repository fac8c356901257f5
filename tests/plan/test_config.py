"""Decoding a config: every error at once, each with its path, none with a secret."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.plan.config import Config, StoredKey
from fastgw.plan.decode import ConfigErrors, decode
from fastgw.plan.parse import parse

CANARY = "sk-canary-5f1e0"


def errors_of(text, base=Path(), environ=None):
    with pytest.raises(ConfigErrors) as caught:
        parse(text, base=base, environ=environ or {})
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


def read(text, base=Path(), **environ):
    return parse(text, base=base, environ=environ)[0]


def test_every_error_at_once_each_with_its_path():
    text = """
providers:
  a: {kind: openai, api_keyz: x, queue: many}
  b: [openai]
models:
  fast:
    targets: [{provider: a, model: m, weight: heavy}, {provider: a}, 5]
    cache: {ttl: 5s}
    timeout: {connect: 5}
keys:
  - {name: k, secret: 12345678, tags: [x]}
  - {secret: abcdefgh}
limits: {tokens: 5, burst: 1.5}
cache: {size: 1GB}
log: {access: maybe}
providres: {}
"""
    found = errors_of(text)
    assert {line.split(":")[0]: line.split(": ", 1)[1].split(";")[0] for line in found} == {
        "providers.a.api_keyz": "unknown field",
        "providers.a.queue": "Expected `int`, got `str`",
        "providers.b": "expected a mapping, got list",
        "models.fast.targets[0].weight": "Expected `int`, got `str`",
        "models.fast.targets[1].model": "missing",
        "models.fast.targets[2]": "expected a mapping, got int",
        "models.fast.cache": "not built yet",
        "models.fast.timeout.connect": "Expected `str`, got `int`",
        "keys[0].secret": "Expected `str`, got `int`",
        "keys[0].tags": "not built yet",
        "keys[1].name": "missing",
        "limits.tokens": "Expected `str | array | null`, got `int`",
        "limits.burst": "Expected `int | null`, got `float`",
        "cache": "not built yet",
        "log.access": "Expected `bool`, got `str`",
        "providres": "unknown field",
    }
    assert len(found) == 16


def test_an_unknown_field_is_told_with_those_that_are_known():
    assert errors_of("log: {levle: info}") == ["log.levle: unknown field; known are access, level"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "(file): the config must be a mapping"),
        ("just text", "(file): the config must be a mapping"),
        ("a: 'x", "(file): not valid YAML: line 1, column"),
        ("a: b: c", "(file): not valid YAML: line 1, column"),
        ("? [a]\n: b", "(file): not valid YAML: line 1: a name must be plain text"),
        ("? {a: b}\n: b", "(file): not valid YAML: line 1: a name must be plain text"),
        ("a: \x00", "(file): not valid YAML"),
        ("a: 1\n---\na: 2", "(file): not valid YAML"),
        ("a: !!int abc", "(file): not valid YAML: a value that cannot be read (ValueError)"),
        ("a: &a {b: *a}", "(file): too deep or too large"),
        ("a: " + "[" * 40 + "]" * 40, "(file): too deep or too large"),
        ("a: " + "[" * 20_000, "(file): not valid YAML"),
        ("models: {1: {targets: []}}", "(file): Expected `str`, got `int`"),
        ("providers:", "providers: Expected `object`, got `null`"),
    ],
)
def test_what_is_no_config(text, expected):
    (error,) = errors_of(text)
    assert error.startswith(expected)


def test_aliases_that_multiply_are_stopped():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)
    ]
    assert errors_of("\n".join(lines)) == ["(file): too deep or too large; anchors must not contain themselves"]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/tuple", "!env", "!!binary_"]
)
def test_no_tag_makes_an_object(tag):
    (error,) = errors_of(f"expose_facts: {tag} [true]")
    assert "could not determine a constructor" in error


@pytest.mark.parametrize(
    "text", ["log: {level: a, level: b}", "log: {level: a}\nlog: {level: b}", "log: {'level': a, level: b}"]
)
def test_a_name_that_stands_twice_is_an_error(text):
    (error,) = errors_of(text)
    assert error.endswith("stands here twice")


def test_anchors_and_merges_are_plain_yaml_and_the_later_name_wins():
    text = """
limits: &base {requests: 60/min, burst: 5}
models:
  a: {targets: [], limits: &tight {<<: *base, burst: 1}}
  b: {targets: [], limits: {<<: *tight}}
keys: [{name: a, secret: x, limits: {<<: *tight, requests: 1/s}}]
"""
    config = read(text)
    assert [config.models[name].limits.burst for name in "ab"] == [1, 1]
    assert (config.keys[0].limits.requests, config.keys[0].limits.burst) == ("1/s", 1)


def test_dates_and_yes_and_no_are_text():
    config = read(
        "keys: [{name: on, secret: yes, models: [no, off], expires: 2027-01-31}]\n"
        "models: {y: {targets: [], retry: {on: [429]}}}"
    )
    key = config.keys[0]
    assert (key.name, key.secret, key.models, key.expires) == ("on", "yes", ["no", "off"], "2027-01-31")
    assert config.models["y"].retry.on == (429,)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_a_mistake(text):
    with pytest.raises(ConfigErrors, match="empty"):
        read(text)


def test_references_are_filled_in_wherever_there_is_text():
    text = "providers: {a: {kind: openai, api_key: '${A}', headers: {x: 'b-${B}-${C:-d}-${D:-}'}}}"
    provider = read(text, A="1", B="2").providers["a"]
    assert (provider.api_key, provider.headers) == ("1", {"x": "b-2-d-"})


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${X:-y}", {}, "y"),
        ("${X:-y}", {"X": ""}, "y"),
        ("${X:-y}", {"X": "z"}, "z"),
        ("${X:-a:b/c}", {}, "a:b/c"),
        ("$X ${} ${1} $${X}", {"X": "z"}, "$X ${} ${1} $z"),
        ("${X}", {"X": "${Y}"}, "${Y}"),
    ],
)
def test_defaults_and_what_is_no_reference(text, environ, expected):
    assert read(f"log: {{level: '{text}'}}", **environ).log.level == expected


def test_a_missing_variable_is_named_with_its_place_and_the_rest_is_checked_too():
    assert errors_of(
        "log: {level: '${NOPE}'}\nnope: 1\nkeys: [{name: a, secret: '${GONE}'}]", environ={"NOPE": ""}
    ) == [
        "log.level: the environment variable NOPE is not set; set it or give a default with ${NOPE:-...}",
        "keys[0].secret: the environment variable GONE is not set; set it or give a default with ${GONE:-...}",
        errors_of("nope: 1")[0],
    ]


def test_files_are_relative_to_the_config_and_stripped(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "key").write_text(f"  {CANARY}\n")
    config, files = parse("log: {level: '${file:sub/key}'}", base=tmp_path, environ={})
    assert config.log.level == CANARY
    assert files == [tmp_path / "sub" / "key"]
    config, files = parse(f"log: {{level: '${{file:{tmp_path}/sub/key}}'}}", base=Path("/nowhere"), environ={})
    assert config.log.level == CANARY


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    text = "log: {level: '${file:none}'}\nkeys: [{name: a, secret: '${file:bin}'}]\nkeys_file: '${file:.}'"
    found = errors_of(text, base=tmp_path)
    assert found[0] == f"log.level: cannot read {tmp_path}/none: No such file or directory"
    assert found[1] == f"keys[0].secret: cannot read {tmp_path}/bin: it is not UTF-8 text"
    assert found[2].startswith("keys_file: cannot read ")


@pytest.mark.parametrize(
    "text",
    [
        f"keys: [{{name: a, secret: !{CANARY} x}}]",
        f"keys: [{{name: a, secret: *{CANARY}}}]",
        f"keys: [{{name: a, secret: !!int {CANARY}}}]",
        f"keys: [{{name: a, secret: !!float {CANARY}}}]",
        f"keys: [{{name: a, secret: !!timestamp {CANARY}}}]",
        f"keys: [{{name: a, secret: !!bool {CANARY}}}]",
        f"keys: [{{name: a, secret: '{CANARY}}}]",
        f"keys: [{{name: a, secret: @{CANARY}}}]",
        f"keys: [{{name: a, secret: %{CANARY}}}]",
        f"keys: [{{name: a, secret: {CANARY}: b}}]",
        f"keys: [{{name: a, secret: [{CANARY}]}}]",
        f"keys: {CANARY}",
        f"providers: {{a: {{kind: openai, api_key: {{{CANARY}: 1}}}}}}",
        f"providers: {{a: {{kind: openai, headers: [{CANARY}]}}}}",
        f"limits: {{burst: {CANARY}}}",
        "limits: {burst: '${CANARY}'}",
        "log: {access: '${CANARY}'}",
        "keys: '${CANARY}'",
    ],
)
def test_no_error_shows_a_value(text):
    assert CANARY not in "\n".join(errors_of(text, environ={"CANARY": CANARY}))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda kids: (
            st.lists(kids, max_size=4)
            | st.dictionaries(
                st.sampled_from(["providers", "models", "keys", "limits", "kind", "targets", "name", "burst", "x"]),
                kids,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_tree_is_a_config_or_errors(tree):
    errors: list[str] = []
    config = decode(tree, Config, "", errors)
    assert (config is None) == bool(errors)


@given(st.text(max_size=60))
def test_any_text_is_a_config_or_errors(text):
    try:
        config, _ = parse(text, base=Path("/nonexistent"), environ={})
    except ConfigErrors as caught:
        config = caught
    assert isinstance(config, Config) or config.errors


def test_a_stored_key_is_decoded_under_its_place():
    errors: list[str] = []
    assert decode({"name": "a", "has": "00"}, StoredKey, "keys.jsonl:3", errors) is None
    assert [error.split(";")[0] for error in errors] == [
        "keys.jsonl:3.has: unknown field",
        "keys.jsonl:3.hash: missing",
    ]
    assert decode(msgspec.json.decode(b'{"name":"a","hash":"00"}'), StoredKey, "", errors) == StoredKey("a", "00")
