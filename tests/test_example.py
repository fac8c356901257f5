"""The example config is what a newcomer copies: it must decode as it stands, and so must what it has commented out."""

import re
from pathlib import Path

import pytest

from fastgw.plan.decode import ConfigErrors
from fastgw.plan.parse import parse

EXAMPLE = Path(__file__).resolve().parent.parent / "fastgw.example.yaml"
ENVIRON = {"OPENAI_API_KEY": "sk-test", "AZURE_OPENAI_API_KEY": "azure-test", "FASTGW_DEMO_KEY": "sk-demo"}


def with_commented_settings() -> str:
    """The example with its commented-out settings switched on: comment lines that look like `field: value`."""
    return re.sub(r"^( *)# ( *[a-z_]+:(?: \S.*)?)$", r"\1\2", EXAMPLE.read_text(), flags=re.M)


def test_the_example_decodes():
    config, _ = parse(EXAMPLE.read_text(), base=EXAMPLE.parent, environ=ENVIRON)
    assert set(config.providers) == {"openai", "local"}
    assert config.keys[0].secret == ENVIRON["FASTGW_DEMO_KEY"]
    assert {target.provider for target in config.models["fast"].targets} <= set(config.providers)


def test_what_the_example_has_commented_out_decodes():
    config, _ = parse(with_commented_settings(), base=EXAMPLE.parent, environ=ENVIRON)
    assert config.providers["eu"].kind == "azure"
    assert config.models["fast"].limits.requests == "3000/min"
    assert config.keys_file == "./keys.jsonl"


def test_the_example_names_what_it_needs_from_the_environment():
    with pytest.raises(ConfigErrors) as caught:
        parse(EXAMPLE.read_text(), base=EXAMPLE.parent, environ={})
    assert [line.split(":")[0] for line in caught.value.errors] == ["providers.openai.api_key", "keys[0].secret"]
