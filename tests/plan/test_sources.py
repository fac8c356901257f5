"""Where a config comes from: a file, the environment, the demo; and what to do when there is nothing."""

import stat

import pytest

from fastgw.plan.config import Config
from fastgw.plan.decode import ConfigErrors
from fastgw.plan.sources import DEMO_MODELS, Sources, load, providers_in, watched
from tests.plan.support import MODELS, PROVIDERS, compiled, refused

CANARY = "sk-canary-77aa1"


def test_the_environment_alone(tmp_path):
    plan = compiled(tmp_path, environ={"OPENAI_API_KEY": CANARY})
    assert set(plan.upstreams) == {"openai"}
    assert plan.upstreams["openai"].auth_value == f"Bearer {CANARY}"
    assert plan.models == {}
    assert {name: model.targets[0].upstream for name, model in plan.wildcards.items()} == {
        "openai": "openai",
        "*": "openai",
    }
    assert [model.targets[0].model for model in plan.wildcards.values()] == ["", ""]
    (demo,) = plan.keys
    assert (demo.name, demo.rules[0].limit, demo.rules[0].per) == ("demo", 60, "min")
    assert not plan.options.demo
    assert stat.S_IMODE((tmp_path / "demo.key").stat().st_mode) == 0o600


def test_the_environment_counts_only_what_is_set():
    assert providers_in({"OPENAI_API_KEY": "", "ANTHROPIC": "x"}) == []
    assert providers_in({"OPENAI_API_KEY": "x"}) == ["openai"]


def test_the_demo(tmp_path):
    plan = compiled(tmp_path, demo=True, demo_url="http://127.0.0.1:1234/v1", environ={"OPENAI_API_KEY": CANARY})
    assert set(plan.upstreams) == {"mock"}
    assert plan.upstreams["mock"].origin.port == 1234
    assert set(DEMO_MODELS) < set(plan.models)
    assert plan.options.demo
    assert next(iter(plan.keys)).rules == ()
    assert plan.models["mock-small"].targets[0].price.input == 150_000


def test_nothing_to_serve_says_what_to_do(tmp_path):
    (error,) = refused(tmp_path)
    assert error.startswith("(nothing to serve)")
    assert "OPENAI_API_KEY" in error
    assert "--demo" in error


def test_a_file_comes_before_the_environment(tmp_path):
    plan = compiled(tmp_path, PROVIDERS + MODELS, environ={"OPENAI_API_KEY": CANARY})
    assert set(plan.upstreams) == {"up"}
    assert set(plan.wildcards) == {"up"}
    assert len(plan.keys) == 0


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(ConfigErrors, match="cannot read"):
        load(Sources(str(tmp_path), {}, config=str(tmp_path / name)))


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "fastgw.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigErrors, match="UTF-8"):
        load(Sources(str(tmp_path), {}, config=str(tmp_path / "fastgw.yaml")))


def test_stored_keys_come_with_their_place(tmp_path):
    row = '{"name":"%s","hash":"' + "0" * 64 + '"}\n'
    (tmp_path / "keys.jsonl").write_text(row % "a" + "\n" + row % "b")
    (tmp_path / "more.jsonl").write_text(row % "c")
    (tmp_path / "fastgw.yaml").write_text("keys_file: more.jsonl")
    loaded = load(Sources(str(tmp_path), {}, config=str(tmp_path / "fastgw.yaml")))
    assert [(place, row.name) for place, row in loaded.stored] == [
        ("keys.jsonl:1", "a"),
        ("keys.jsonl:3", "b"),
        ("more.jsonl:1", "c"),
    ]
    assert loaded.files == [str(tmp_path / "keys.jsonl"), str(tmp_path / "more.jsonl")]


def test_bad_rows_are_told_one_by_one(tmp_path):
    (tmp_path / "keys.jsonl").write_bytes(b'{"name":"a"}\nnot json\n[1]\n{"name":"a","hash":"0","x":1}\n\xff\n"t"\n')
    errors = refused(tmp_path, PROVIDERS + MODELS)
    assert [error.split(";")[0] for error in errors] == [
        "keys.jsonl:1.hash: missing",
        "keys.jsonl:2: not a JSON object",
        "keys.jsonl:3: expected a mapping, got list",
        "keys.jsonl:4.x: unknown field",
        "keys.jsonl:5: not a JSON object",
        "keys.jsonl:6: expected a mapping, got str",
    ]


def test_a_keys_file_that_was_asked_for_must_be_there(tmp_path):
    (error,) = refused(tmp_path, PROVIDERS + MODELS + "keys_file: none.jsonl\n")
    assert error == f"keys_file: {tmp_path}/none.jsonl does not exist"


def test_references_in_stored_keys_are_not_filled_in(tmp_path):
    (tmp_path / "keys.jsonl").write_text('{"name":"${HOME}","hash":"' + "0" * 64 + '"}\n')
    errors = refused(tmp_path, PROVIDERS + MODELS, environ={"HOME": CANARY})
    assert errors
    assert CANARY not in "\n".join(errors)


def test_everything_that_matters_is_watched_also_while_it_is_wrong(tmp_path):
    config = tmp_path / "fastgw.yaml"
    config.write_text("keys_file: more.jsonl\nlog: {level: '${file:level}'}")
    (tmp_path / "level").write_text("info")
    sources = Sources(str(tmp_path), {}, config=str(config))
    assert set(watched(sources)) == {
        str(tmp_path / name) for name in ("keys.jsonl", "fastgw.yaml", "level", "more.jsonl")
    }
    config.write_text("nonsense: 1")
    assert watched(sources) == [str(tmp_path / "keys.jsonl"), str(config)]
    assert watched(Sources(str(tmp_path), {}, demo=True)) == [str(tmp_path / "keys.jsonl")]


def test_loading_a_file_makes_no_demo_key(tmp_path):
    (tmp_path / "fastgw.yaml").write_text(PROVIDERS)
    loaded = load(Sources(str(tmp_path), {}, config=str(tmp_path / "fastgw.yaml")))
    assert isinstance(loaded.config, Config)
    assert not (tmp_path / "demo.key").exists()
