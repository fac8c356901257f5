"""Builds src/fastgw/data/catalogue.json: models, what they can do and what they cost, from two maintained sources.

    python tools/build_catalogue.py [--genai WHEEL --litellm WHEEL] [--as-of YYYY-MM-DD] [--check]

Without paths the pinned versions are downloaded (`pip download --no-deps`) into a directory that is thrown away. The
result depends on the two data files and the date alone. Prices: both sources agree; or genai-prices is taken (its
prices have dates and refer to the vendors' pages) and the row says that the other differs; or only one of them has a
price under the very name of the model.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import catalogue_sources as sources  # noqa: E402 - run as a script, the root is not on the path yet
from tools.catalogue_sources import Model  # noqa: E402

OUT = ROOT / "src" / "fastgw" / "data" / "catalogue.json"
AS_OF = date(2026, 11, 23)
VERSIONS = {"genai-prices": "0.2.3", "litellm": "1.109.1"}
URLS = {
    "genai-prices": "https://github.com/pydantic/genai-prices",
    "litellm": "https://github.com/BerriAI/litellm",
}
KINDS = ("input", "output", "cached", "cache_write", "reasoning")
PICO_PER_DOLLAR_A_MILLION = 10**6
MAX_BYTES = 700_000
# Dollars per million tokens. Nothing costs this much; a price that does was written per thousand or per call.
SLIP = 1_000

# kind of provider: its names in genai-prices, its names in litellm.
WHERE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openai": (("openai",), ("openai", "text-completion-openai")),
    "azure": (("azure",), ("azure", "azure_ai", "azure_text")),
    "anthropic": (("anthropic",), ("anthropic",)),
    "gemini": (("google",), ("gemini",)),
    "vertex": (("google",), ("vertex_ai", "vertex_ai-language-models", "vertex_ai-anthropic_models",
                             "vertex_ai-mistral_models", "vertex_ai-llama_models", "vertex_ai-embedding-models",
                             "vertex_ai-deepseek_models", "vertex_ai-qwen_models", "vertex_ai-openai_models",
                             "vertex_ai-zai_models", "vertex_ai-minimax_models", "vertex_ai-moonshot_models",
                             "vertex_ai-ai21_models")),
    "bedrock": (("aws",), ("bedrock", "bedrock_converse")),
    "mistral": (("mistral",), ("mistral", "codestral")),
    "cohere": (("cohere",), ("cohere_chat", "cohere")),
    "groq": (("groq",), ("groq",)),
    "deepseek": (("deepseek",), ("deepseek",)),
    "xai": (("x-ai",), ("xai",)),
    "openrouter": (("openrouter",), ("openrouter",)),
    "together": (("together",), ("together_ai",)),
    "fireworks": (("fireworks",), ("fireworks_ai", "fireworks_ai-embedding-models")),
    "perplexity": (("perplexity",), ("perplexity",)),
    "cerebras": (("cerebras",), ("cerebras",)),
    "nvidia_nim": ((), ("nvidia_nim",)),
    "huggingface": (tuple(f"huggingface_{name}" for name in (
        "cerebras", "fireworks-ai", "groq", "hyperbolic", "nebius", "novita", "nscale", "ovhcloud", "publicai",
        "sambanova", "together")), ()),
    "deepinfra": ((), ("deepinfra",)),
    "sambanova": ((), ("sambanova",)),
    "nebius": ((), ("nebius",)),
    "hyperbolic": ((), ("hyperbolic",)),
    "novita": (("novita",), ("novita",)),
    "moonshot": (("moonshotai",), ("moonshot",)),
    "dashscope": ((), ("dashscope",)),
    "zai": (("zai",), ("zai",)),
    "minimax": (("minimax",), ("minimax",)),
    "nscale": ((), ("nscale",)),
    "featherless": ((), ("featherless_ai",)),
    "friendli": ((), ("friendliai",)),
    "baseten": (("baseten",), ("baseten",)),
    "wandb": ((), ("wandb",)),
    "vercel": ((), ("vercel_ai_gateway",)),
    "ovhcloud": (("ovhcloud",), ("ovhcloud",)),
    "scaleway": ((), ("scaleway",)),
    "volcengine": ((), ("volcengine",)),
    "ai21": ((), ("ai21",)),
    "inception": ((), ("inception",)),
    "morph": ((), ("morph",)),
    "aimlapi": ((), ("aiml",)),
    "databricks": (("databricks",), ("databricks",)),
    "watsonx": ((), ("watsonx",)),
    "cloudflare": (("cloudflare",), ("cloudflare",)),
}  # fmt: skip
FIREWORKS = "accounts/fireworks/models/"


def main(arguments: list[str]) -> int:
    """Build the catalogue, or with `--check` say whether the one in the tree is what would be built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genai", type=Path, help="wheel (or data.py) of genai-prices")
    parser.add_argument("--litellm", type=Path, help="wheel (or prices JSON) of litellm")
    parser.add_argument("--as-of", type=date.fromisoformat, default=AS_OF)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        genai = options.genai or _download("genai-prices", directory)
        litellm = options.litellm or _download("litellm", directory)
        data = {
            "genai-prices": sources.data_of(genai, sources.GENAI_FILE),
            "litellm": sources.data_of(litellm, sources.LITELLM_FILE),
        }
    rows = build(
        sources.read_genai(data["genai-prices"].decode(), options.as_of), sources.read_litellm(data["litellm"].decode())
    )
    text = dump(header(data, options.as_of), rows)
    report(rows, text)
    if len(text.encode()) > MAX_BYTES:
        print(f"too large: {len(text.encode())} bytes of {MAX_BYTES}", file=sys.stderr)
        return 1
    if options.check:
        return 0 if OUT.read_text() == text else 1
    OUT.write_text(text)
    return 0


def _download(name: str, directory: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", directory, f"{name}=={VERSIONS[name]}"]
    subprocess.run(command, check=True)
    return next(Path(directory).glob(f"{name.replace('-', '_')}-*.whl"))


def header(data: dict[str, bytes], as_of: date) -> dict[str, Any]:
    """Where the catalogue comes from, so that anyone can build the same one."""
    return {
        "version": as_of.isoformat(),
        "sources": [
            {
                "name": name,
                "version": VERSIONS[name],
                "licence": "MIT",
                "url": URLS[name],
                "sha256": hashlib.sha256(raw).hexdigest(),
            }
            for name, raw in data.items()
        ],
    }


def build(genai: dict[str, list[Model]], litellm: dict[str, list[Model]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the catalogue by kind of provider, each sorted by model."""
    found = {}
    for kind, (ours, theirs) in WHERE.items():
        first = [one for name in ours for one in _renamed(kind, name, genai.get(name, ()))]
        second = [one for name in theirs for one in _renamed(kind, name, litellm.get(name, ()))]
        if models := merge(first, second):
            found[kind] = models
    return found


def _renamed(kind: str, source: str, models: Any) -> list[Model]:
    """The models by the names their provider takes in a request, without those that are another kind's."""
    if kind == "gemini":
        return [one for one in models if one.id.startswith(("gemini", "gemma", "learnlm", "text-embedding"))]
    if kind == "huggingface":
        partner = source.removeprefix("huggingface_")
        for one in models:
            one.id, one.aliases = f"{one.id}:{partner}", []
    if kind == "fireworks":
        for one in models:
            if "/" not in one.id:
                one.aliases.append(one.id)
                one.id = FIREWORKS + one.id
    return list(models)


def merge(genai: list[Model], litellm: list[Model]) -> list[dict[str, Any]]:
    """One row a model, by name."""
    rows: dict[str, dict[str, Any]] = {}
    for one in litellm:
        if one.id not in rows:
            rows[one.id] = row(one, *_in(genai, one.id))
    for one in genai:
        if one.id not in rows:
            rows[one.id] = row(None, one, named=True)
    taken = set(rows)
    for one in genai:
        aliases = [name for name in dict.fromkeys(one.aliases) if name not in taken]
        taken.update(aliases)
        if aliases:
            rows[one.id]["aliases"] = sorted(aliases)
    return [rows[name] for name in sorted(rows) if tells(rows[name])]


def tells(one: dict[str, Any]) -> bool:
    """Whether a row says more than that there is such a name."""
    return "price" in one or "context" in one


def _in(genai: list[Model], name: str) -> tuple[Model | None, bool]:
    """The model that goes by `name`, and whether by that very name (a pattern may cover what is priced otherwise)."""
    for one in genai:
        if name == one.id or name in one.aliases:
            return one, True
    return next((one for one in genai if one.matches(name)), None), False


def row(litellm: Model | None, genai: Model | None, named: bool) -> dict[str, Any]:
    """A row of the catalogue from what either source says; defaults are left out, as the reader puts them back."""
    one, other = litellm or genai, genai or litellm
    if one is None or other is None:
        raise ValueError("a row needs a source")
    price, source = chosen(litellm, genai, named)
    found = {
        "model": one.id,
        "mode": one.mode or "chat",
        "context": one.context or other.context,
        "output": one.max_output,
        "in": one.inputs or ["text"],
        "out": one.outputs or ["text"],
        "can": one.capabilities,
        "deprecated": one.deprecated or other.deprecated,
        "price": price,
        "source": source,
        "caveats": sorted((genai if genai and source != "litellm" else one).caveats) if price else [],
    }
    defaults = {"mode": "chat", "context": 0, "output": 0, "in": ["text"], "out": ["text"], "source": "both"}
    return {name: value for name, value in found.items() if value not in (None, [], "") and defaults.get(name) != value}


def chosen(litellm: Model | None, genai: Model | None, named: bool) -> tuple[list[int | None] | None, str]:
    """The price in pico-dollars per token by KINDS, and whose it is. `named`: genai-prices has the very name."""
    ours = pico(genai) if genai else None
    theirs = pico(litellm) if litellm else None
    if ours is None:
        return theirs, "litellm" if litellm else "genai"
    if theirs is None:
        return ours, "genai"
    if ours[:2] == theirs[:2]:
        return ours, "both"
    return (ours, "genai, litellm differs") if named else (theirs, "litellm")


def pico(model: Model) -> list[int | None] | None:
    """Integer pico-dollars per token; None where the model is not billed by token, or the source does not know.

    What is cheaper than a pico-dollar is rounded, half up. Cached and written tokens cost what input costs where no
    source says otherwise; reasoning (None) what output costs.
    """
    prices = model.prices
    if not any(prices.values()):
        # Nothing is a price where the name says so; elsewhere it stands for not knowing.
        return [0] * 4 if model.id.endswith(":free") else None
    if "input" not in prices or ("output" not in prices and model.mode not in ("embedding", "rerank", "moderation")):
        return None
    if max(prices.values()) > SLIP:
        return None
    plain = _round(prices["input"])
    found = [
        plain,
        _round(prices.get("output", Decimal(0))),
        _round(prices["cached"]) if "cached" in prices else plain,
        _round(prices["cache_write"]) if "cache_write" in prices else plain,
    ]
    reasoning = _round(prices["reasoning"]) if "reasoning" in prices else None
    return [*found, reasoning] if reasoning is not None and reasoning != found[1] else [*found]


def _round(dollars: Decimal) -> int:
    return int((dollars * PICO_PER_DOLLAR_A_MILLION).to_integral_value(rounding=ROUND_HALF_UP))


def odd(rows: list[dict[str, Any]]) -> list[str]:
    """The models whose prices look like a slip: for a person to look at, not for the tool to correct."""
    found = []
    for one in rows:
        price = one.get("price")
        if not price or one.get("mode") == "embedding":
            continue
        plain, output, cached = price[0], price[1], price[2]
        if plain and output and not plain / 2 <= output <= plain * 20:
            found.append(f"{one['model']}: output is {output / plain:.2f} times input")
        if cached > plain:
            found.append(f"{one['model']}: a cached token costs more than a fresh one")
    return found


def dump(head: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> str:
    """The file: one line a model, so that a change of one price is a change of one line."""
    lines = [f'{{"version":{json.dumps(head["version"])},"sources":{_compact(head["sources"])},"models":{{']
    blocks = [f"{json.dumps(kind)}:[\n" + ",\n".join(map(_compact, models)) + "]" for kind, models in rows.items()]
    return "\n".join([*lines, ",\n".join(blocks), "}}", ""])


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def report(rows: dict[str, list[dict[str, Any]]], text: str) -> None:
    """Tell the operator of the tool what to look at."""
    every = [one for models in rows.values() for one in models]
    print(f"{len(every)} models of {len(rows)} kinds, {len(text.encode())} bytes")
    print("prices:", dict(Counter(one.get("source", "both") if one.get("price") else "none" for one in every)))
    for kind, models in rows.items():
        for line in odd(models):
            print(f"odd: {kind}/{line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
