"""A config file's text: YAML, with references to the environment and to files filled in.

Secrets come from the environment (`${NAME}`, `${NAME:-default}`) or from files (`${file:PATH}`, relative to the config
file); both work inside any text of the operator's own file and nowhere else.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fastgw.plan.config import Config
from fastgw.plan.decode import ConfigErrors, decode

MAX_DEPTH = 32
MAX_NODES = 4_000_000
REFERENCE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?)\}")


class UniqueKeyLoader(yaml.CSafeLoader):
    """Safe YAML in which a key that stands twice is an error, where plain YAML lets the last one win."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flat: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge `<<` into a mapping whose keys were checked to be different; raises yaml.YAMLError."""
        # Once only: a mapping that was merged into may rightly hold a key twice, of which the later counts.
        if node not in self._flat:
            self._flat.add(node)
            _check_keys(node)
        super().flatten_mapping(node)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.YAMLError(f"line {line}: a name must be plain text, not a list or a mapping")
        if key_node.value in seen and key_node.tag != _MERGE:
            raise yaml.YAMLError(f"line {line}: {key_node.value!r} stands here twice")
        seen.add(key_node.value)


# YAML 1.1 takes `on`, `off`, `yes` and `no` for booleans, keys too: `retry: {on: ...}` would be a field called True.
# A date is text here: what it means is decided where it is read.
_BOOL, _MERGE = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:merge"
_TEXT = frozenset({_BOOL, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"})
UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
UniqueKeyLoader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse(text: str, *, base: Path, environ: Mapping[str, str]) -> tuple[Config, list[Path]]:
    """Decode a config file's text; also returns the files its `${file:}` references name. Raises ConfigErrors."""
    tree = _load(text)
    if tree is None:
        # What a file looks like that is just being written anew, for one.
        raise ConfigErrors(["(file): empty; it must hold `providers:`, `models:` and `keys:`"])
    if not isinstance(tree, dict):
        raise ConfigErrors(["(file): the config must be a mapping with `providers:`, `models:`, `keys:`"])
    filler = _Filler(base, environ)
    tree = filler.fill(tree, "")
    errors = filler.errors
    config = decode(tree, Config, "", errors)
    if errors or config is None:
        raise ConfigErrors(errors)
    return config, filler.files


def _load(text: str) -> Any:
    """The tree of a YAML text. What it says of an error holds no value: one may be a secret that wants quotes."""
    try:
        return yaml.load(text, UniqueKeyLoader)  # noqa: S506 - a subclass of CSafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (error.problem or "cannot be read").partition(" '")[0]
        raise ConfigErrors([f"(file): not valid YAML: {place}{problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigErrors([f"(file): not valid YAML: {error}"]) from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # What PyYAML's constructors raise for an explicit tag whose value does not fit, such as `!!bool x`.
        raise ConfigErrors([f"(file): not valid YAML: a value that cannot be read ({type(error).__name__})"]) from None


class _Filler:
    """Replaces references in every text of a tree, and notes which could not be."""

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self.base = base
        self.environ = environ
        self.errors: list[str] = []
        self.files: list[Path] = []
        self.nodes = 0

    def fill(self, node: Any, path: str, depth: int = 0) -> Any:
        # An alias may stand inside its own anchor, or multiply what it names: YAML's way to be endless.
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise ConfigErrors(["(file): too deep or too large; anchors must not contain themselves"])
        depth += 1
        if isinstance(node, dict):
            return {key: self.fill(value, f"{path}.{key}" if path else str(key), depth) for key, value in node.items()}
        if isinstance(node, list):
            return [self.fill(value, f"{path}[{index}]", depth) for index, value in enumerate(node)]
        if isinstance(node, str) and "${" in node:
            return REFERENCE.sub(lambda match: self._value(match, path), node)
        return node

    def _value(self, match: re.Match[str], path: str) -> str:
        if match["file"]:
            return self._file(match["file"], path)
        value = self.environ.get(match["name"])
        if not value and match["default"] is not None:
            return match["default"][2:]
        if not value:
            self.errors.append(
                f"{path}: the environment variable {match['name']} is not set; set it or give a "
                f"default with ${{{match['name']}:-...}}"
            )
        return value or ""

    def _file(self, name: str, path: str) -> str:
        file = (self.base / name).expanduser()
        self.files.append(file)
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.errors.append(f"{path}: cannot read {file}: {reason}")
            return ""
