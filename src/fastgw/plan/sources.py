"""Where a config comes from: the operator's file, the environment alone, or the built-in demo; and the stored keys."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from fastgw.plan.config import Config, Key, Limits, Model, Price, Provider, StoredKey, Target
from fastgw.plan.decode import ConfigErrors, decode
from fastgw.plan.parse import parse
from fastgw.providers import PROVIDERS
from fastgw.secret import veiled
from fastgw.state.secrets import ensure_demo_key, read_secret

STORED_KEYS = "keys.jsonl"
NAMED = 4
DEMO_MODELS = ("mock-small", "mock-large")
_read_row = msgspec.json.Decoder(StoredKey, strict=False).decode
DEMO_KEY_LIMITS = Limits(requests="60/min", burst=20)


class Sources(Struct):
    """What `build` compiles. `demo_url` is the base URL of the built-in mock."""

    data_dir: str
    environ: dict[str, str]
    config: str | None = None
    demo: bool = False
    demo_url: str = ""

    def __repr__(self) -> str:
        return veiled(self, "environ")


class Loaded(Struct):
    """A decoded config, the stored keys with the place each came from, and the files to watch.

    `catalogue` is the operator's own, where the config names one.
    """

    config: Config
    stored: list[tuple[str, StoredKey]]
    files: list[str]
    environ: dict[str, str] = {}
    wildcard_kinds: tuple[str, ...] = ()
    catalogue: Path | None = None

    def __repr__(self) -> str:
        return veiled(self, "environ")


def providers_in(environ: Mapping[str, str]) -> list[str]:
    """The kinds of provider whose key stands in the environment."""
    return [kind for kind, one in PROVIDERS.items() if one.key_env and environ.get(one.key_env)]


def load(sources: Sources) -> Loaded:
    """Read everything an operator has said. Raises ConfigErrors with every error found."""
    errors: list[str] = []
    files: list[Path] = []
    kinds: tuple[str, ...] = ()
    if sources.config is not None:
        config, files = _from_file(Path(sources.config), sources.environ)
    elif sources.demo:
        config = _demo(sources)
    else:
        kinds = tuple(providers_in(sources.environ))
        config = _from_environment(kinds, sources)
    stored_files = [Path(sources.data_dir) / STORED_KEYS]
    if (keys_file := _beside(sources, config.keys_file)) is not None:
        stored_files.append(keys_file)
    stored = [row for file in stored_files for row in _stored(file, errors, required=file is not stored_files[0])]
    if errors:
        raise ConfigErrors(errors)
    own = _beside(sources, config.catalogue)
    watch = [str(file) for file in (*files, *stored_files, *_certificates(config), own) if file is not None]
    return Loaded(config, stored, watch, sources.environ, kinds, own)


def watched(sources: Sources) -> list[str]:
    """The files whose change means a reload, also while what they say is wrong."""
    files = [Path(sources.data_dir) / STORED_KEYS]
    if sources.config is not None:
        config = Path(sources.config)
        files.append(config)
        try:
            found, named = _from_file(config, sources.environ)
            files += [*named, *_certificates(found)]
            files += [file for name in (found.keys_file, found.catalogue) if (file := _beside(sources, name))]
        except ConfigErrors:
            pass
    return [str(file) for file in files]


def _beside(sources: Sources, name: str | None) -> Path | None:
    """A file that the config names, relative to the config."""
    return Path(sources.config).parent / name if name is not None and sources.config is not None else None


def _certificates(config: Config) -> list[Path]:
    """What the listeners show and ask for, relative to where the gateway was started."""
    tls = config.listen.tls
    return [Path(file) for file in (tls.cert, tls.key, tls.client_ca) if file] if tls is not None else []


def _from_file(path: Path, environ: Mapping[str, str]) -> tuple[Config, list[Path]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigErrors([f"(file): cannot read {path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigErrors([f"(file): {path} is not UTF-8 text"]) from None
    return parse(text, base=path.parent, environ=environ)


def _from_environment(kinds: tuple[str, ...], sources: Sources) -> Config:
    if not kinds:
        names = ", ".join([one.key_env for one in PROVIDERS.values() if one.key_env][:NAMED])
        raise ConfigErrors(
            [
                "(nothing to serve): write a fastgw.yaml, or set a provider's key "
                f"({names}, ...: docs/providers.md has them all), or start with --demo"
            ]
        )
    providers = {kind: Provider(kind=kind, api_key=sources.environ[PROVIDERS[kind].key_env]) for kind in kinds}
    return Config(providers=providers, keys=_demo_keys(sources, limited=True))


def _demo(sources: Sources) -> Config:
    price = Price(input=0.15, output=0.60, cached=0.075)
    models = {
        name: Model(targets=[Target(provider="mock", model=name, price=price)])
        for name in (*DEMO_MODELS, "mock-embedding")
    }
    provider = Provider(kind="openai_compatible", base_url=sources.demo_url)
    keys = _demo_keys(sources, limited=False)
    return Config(providers={"mock": provider}, models=models, keys=keys, wildcards=False)


def _demo_keys(sources: Sources, *, limited: bool) -> list[Key]:
    """The demo key; limited where real provider keys are behind it, since it lies about in a file."""
    secret = read_secret(ensure_demo_key(sources.data_dir))
    return [Key(name="demo", secret=secret, limits=DEMO_KEY_LIMITS if limited else Limits())]


def _stored(path: Path, errors: list[str], *, required: bool) -> list[tuple[str, StoredKey]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        if required:
            errors.append(f"keys_file: {path} does not exist")
        return []
    except OSError as error:
        errors.append(f"{path}: {error.strerror}")
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            rows.append((place, _read_row(line)))
            continue
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass  # now at length, for all that is wrong with it
        try:
            row = decode(msgspec.json.decode(line), StoredKey, place, errors)
        except (msgspec.DecodeError, UnicodeDecodeError):
            errors.append(f"{place}: not a JSON object")
            continue
        if row is not None:
            rows.append((place, row))
    return rows
