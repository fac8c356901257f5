"""The config as an operator writes it, and its decoding: every error at once, each with its path.

Secrets come from the environment (`${NAME}`, `${NAME:-default}`) or from files (`${file:PATH}`, relative to the config
file); both work inside any text of the operator's own file and nowhere else. What is not built yet is refused by name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Struct

from fastgw.secret import veiled

T = TypeVar("T")
MAX_DEPTH = 32
MAX_NODES = 4_000_000
REFERENCE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?)\}")


class ConfigErrors(Exception):
    """Everything that is wrong with a config: `errors` are lines of `path: what is wrong and what to do`."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class Section(Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all parts of the config; `not_built` names fields that are designed but not served yet."""

    not_built: ClassVar[frozenset[str]] = frozenset()


class Limits(Section, frozen=True):
    """`requests` is a rate like `600/min` or `20/s`; `burst` how many of them may come at once (a tenth by default)."""

    not_built: ClassVar[frozenset[str]] = frozenset({"tokens", "concurrent", "budget"})
    requests: str | None = None
    burst: int | None = None


class Provider(Section, frozen=True):
    """An account at a vendor. `allow_headers` lists further request headers of callers that may travel to it."""

    kind: str
    base_url: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    region: str = ""
    headers: dict[str, str] = {}
    allow_headers: list[str] = []
    proxy: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    max_connections: int = 512
    queue: int = 1024
    queue_timeout: str = "5s"

    def __repr__(self) -> str:
        return veiled(self, "api_key", "headers", "proxy")


class Price(Section, frozen=True):
    """Dollars per million tokens. `cached` and `cache_write` default to `input`, `reasoning` to `output`."""

    input: float | str
    output: float | str
    cached: float | str | None = None
    cache_write: float | str | None = None
    reasoning: float | str | None = None


class Target(Section, frozen=True):
    """One way to serve a model; lower `priority` first, `weight` shares within a priority.

    `drop` lists request fields that may be left out where the provider cannot serve them (`*`: any); `max_output` is
    what is asked for where the provider demands a bound and the caller named none.
    """

    provider: str
    model: str
    weight: int = 1
    priority: int = 1
    price: Price | None = None
    drop: list[str] = []
    max_output: int | None = None


class Retry(Section, frozen=True):
    """`attempts` in all; `on`: connect, timeout, 5xx, or a status like 429."""

    attempts: int = 3
    on: tuple[str | int, ...] = ("connect", 429, 503)


class Timeout(Section, frozen=True):
    """Durations like `5s`, `250ms`, `10m`."""

    connect: str = "5s"
    first_token: str = "60s"  # noqa: S105 - no password
    idle: str = "60s"
    total: str = "600s"


class Model(Section, frozen=True):
    """A name clients use and the targets behind it."""

    not_built: ClassVar[frozenset[str]] = frozenset({"fallback", "cache", "reserve_output"})
    targets: list[Target]
    balance: str = "weighted"
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    limits: Limits = Limits()


class Key(Section, frozen=True):
    """A caller's key; `models` are names or prefixes like `openai/*`, all when absent; `expires` an ISO 8601 time."""

    not_built: ClassVar[frozenset[str]] = frozenset({"tags", "aliases", "allowed_ips"})
    name: str
    secret: str
    models: list[str] | None = None
    limits: Limits = Limits()
    expires: str | None = None
    blocked: bool = False

    def __repr__(self) -> str:
        return veiled(self, "secret")


class StoredKey(Section, frozen=True):
    """A row of `keys.jsonl`: as `Key`, with the keyed hash of the secret (hex) in its place."""

    name: str
    hash: str
    prefix: str = ""
    models: list[str] | None = None
    limits: Limits = Limits()
    expires: str | None = None
    blocked: bool = False
    created: str = ""


class Records(Section, frozen=True):
    """Where records go until they are read: `spool_cap` bounds the disk they take."""

    not_built: ClassVar[frozenset[str]] = frozenset({"when_full", "payloads"})
    spool_cap: str = "1GiB"
    segment: str = "8MiB"


class Log(Section, frozen=True):
    """`level`: debug, info, warning, error; `access`: one line a call."""

    level: str = "info"
    access: bool = True


class Bounds(Section, frozen=True):
    """Caps on what a caller may send."""

    body: str = "32MiB"
    headers: int = 100
    header_bytes: str = "32KiB"
    body_timeout: str = "30s"
    body_rate: str = "1KiB"
    heartbeat: str = "15s"


class Config(Section, frozen=True):
    """The whole file."""

    not_built: ClassVar[frozenset[str]] = frozenset({"cache", "tenants", "guards", "routes", "tls"})
    providers: dict[str, Provider] = {}
    models: dict[str, Model] = {}
    keys: list[Key] = []
    keys_file: str | None = None
    catalogue: str | None = None
    limits: Limits = Limits()
    records: Records = Records()
    log: Log = Log()
    bounds: Bounds = Bounds()
    expose_facts: bool = True


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


def decode(value: Any, kind: type[T], path: str, errors: list[str]) -> T | None:
    """`value` as a `kind`; on failure every error below it is added to `errors`, each with its path."""
    found = len(errors)
    _explain(value, kind, path, errors)
    if len(errors) > found:
        return None
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        errors.append(_with_path(str(error), path))
        return None


def _explain(value: Any, kind: Any, path: str, errors: list[str]) -> None:
    """Add an error for each field of `value` that does not fit, by descending where msgspec stops at the first."""
    if isinstance(kind, type) and issubclass(kind, Section):
        if isinstance(value, kind):
            return
        _explain_section(value, kind, path, errors)
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, tuple) and isinstance(value, list):
        for index, item in enumerate(value):
            _explain(item, arguments[0], f"{path}[{index}]", errors)
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            _explain(item, arguments[1], f"{path}.{name}", errors)
    else:
        sections = [one for one in arguments if isinstance(one, type) and issubclass(one, Section)]
        if sections and value is not None:
            _explain(value, sections[0], path, errors)
            return
        try:
            msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            errors.append(_with_path(str(error), path))


def _explain_section(value: Any, kind: type[Section], path: str, errors: list[str]) -> None:
    if not isinstance(value, dict):
        errors.append(f"{path or '(file)'}: expected a mapping, got {type(value).__name__}")
        return
    hints = get_type_hints(kind)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    prefix = f"{path}." if path else ""
    for name in value:
        if name in kind.not_built:
            errors.append(f"{prefix}{name}: not built yet; remove it")
        elif name not in fields:
            errors.append(f"{prefix}{name}: unknown field; known are {', '.join(sorted(fields))}")
        else:
            _explain(value[name], hints[name], f"{prefix}{name}", errors)
    for name, field in fields.items():
        if field.required and name not in value:
            errors.append(f"{prefix}{name}: missing")


def _with_path(message: str, path: str) -> str:
    """Msgspec's `... - at `$.a[0]`` with the path of the part that was decoded put before it."""
    text, _, inner = message.partition(" - at `$")
    return f"{path}{inner.rstrip('`')}: {text}" if path or inner else f"(file): {text}"
