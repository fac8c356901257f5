"""Reads the two sources of the model catalogue into one kind of row: what `genai-prices` and `litellm` ship as data.

Neither package is imported: the data of one is a Python literal that is read with `ast`, that of the other is JSON.
Both come as `Model` rows whose prices are dollars per million tokens, in Decimal, exactly as written.
"""

import ast
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

GENAI_FILE, LITELLM_FILE = "genai_prices/data.py", "litellm/model_prices_and_context_window_backup.json"
MILLION = 10**6
# What a model may be here. The rest of litellm's modes are no models (search, ocr of pages, evaluation, ...).
MODES = {
    "chat": "chat",
    "responses": "chat",
    "completion": "completion",
    "embedding": "embedding",
    "image_generation": "image",
    "image_edit": "image",
    "audio_speech": "speech",
    "audio_transcription": "transcription",
    "rerank": "rerank",
    "moderation": "moderation",
    "realtime": "realtime",
}
# Sizes and steps of image models, and price classes by number of parameters, stand beside the models in litellm.
NOT_A_NAME = re.compile(
    r"(?:^|/)(?:\d+-x-\d+|max-x-max|hd|standard|low|medium|high|auto)/|\d+(?:\.\d+)?b-(?:to-)?\d|-up-to-|-above-|\*|\s"
)
PRICES_GENAI = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
}
PRICES_LITELLM = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "caching",
    "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
    "supports_assistant_prefill": "prefill",
}
INPUTS = {
    "supports_vision": "image",
    "supports_pdf_input": "pdf",
    "supports_audio_input": "audio",
    "supports_video_input": "video",
}
OUTPUTS = {"supports_audio_output": "audio"}
OUTPUT_OF = {"embedding": "vector", "image": "image", "speech": "audio", "rerank": "score", "moderation": "score"}


@dataclass
class Model:
    """What one source says of one model; `prices` are dollars per million tokens by kind, empty where unknown."""

    id: str
    prices: dict[str, Decimal] = field(default_factory=dict)
    caveats: set[str] = field(default_factory=set)
    aliases: list[str] = field(default_factory=list)
    mode: str = ""
    context: int = 0
    max_output: int = 0
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    deprecated: str = ""
    matches: Callable[[str], bool] = bool


def data_of(path: Path, name: str) -> bytes:
    """The data file `name` out of a wheel, or `path` itself when it is that file already."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(name)
    return path.read_bytes()


# --- genai-prices


def read_genai(text: str, as_of: date) -> dict[str, list[Model]]:
    """Models by the source's own provider ids, with the prices of the day `as_of`."""
    providers = next(
        _literal(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "providers"
    )
    return {one["id"]: [genai_model(model, as_of) for model in one["models"]] for one in providers}


def _literal(node: ast.AST | None) -> Any:
    """A constructor call becomes a dict with its name under `_`; Decimal and dates become what they are."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "Decimal":
            return Decimal(_literal(node.args[0]))
        if name == "datetime.date":
            return date(*(_literal(one) for one in node.args))
        return {"_": name, **{one.arg: _literal(one.value) for one in node.keywords}}
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    raise ValueError(f"unexpected in the source: {ast.dump(node)[:80] if node else node}")


def genai_model(raw: dict[str, Any], as_of: date) -> Model:
    """One model of genai-prices."""
    standing, hours = _standing(raw["prices"], as_of)
    prices, caveats = _flat(standing)
    if hours:
        # Of prices that change with the hour the dearest is taken: a budget must not be overrun by the clock.
        caveats.add("hours")
        prices = max((prices, *(_flat(one)[0] for one in hours)), key=lambda one: sum(one.values()))
    if raw.get("price_variants"):
        caveats.add("variants")
    return Model(
        id=raw["id"],
        prices=prices,
        caveats=caveats,
        aliases=[name for name in _equals(raw["match"]) if name != raw["id"]],
        context=raw.get("context_window") or 0,
        deprecated="yes" if raw.get("deprecated") else "",
        matches=matcher(raw["match"]),
    )


def _standing(prices: Any, as_of: date) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The price of the day (the last that has begun counts), and those that hold at certain hours only."""
    if isinstance(prices, dict):
        return prices, []
    standing, hours = prices[0]["prices"], []
    for one in prices:
        constraint = one.get("constraint")
        if constraint is None or (constraint["_"] == "StartDateConstraint" and constraint["start_date"] <= as_of):
            standing = one["prices"]
        elif constraint["_"] == "TimeOfDateConstraint":
            hours.append(one["prices"])
    return standing, hours


def _flat(raw: dict[str, Any]) -> tuple[dict[str, Decimal], set[str]]:
    """The plain token prices of a price; of tiers by length the first."""
    prices, caveats = {}, set()
    for kind, name in PRICES_GENAI.items():
        value = raw.get(name)
        if isinstance(value, dict):
            caveats.add("tiers")
            value = value["base"]
        if value is not None:
            prices[kind] = value
    if set(raw) - {"_", "cache_write_1h_mtok", *PRICES_GENAI.values()}:
        caveats.add("beside")
    return prices, caveats


def matcher(clause: dict[str, Any]) -> Callable[[str], bool]:
    """What a source's match clause says, as a function of a model's name."""
    kind = clause["_"]
    if kind in ("ClauseOr", "ClauseAnd"):
        inner = [matcher(one) for one in clause["or_" if kind == "ClauseOr" else "and_"]]
        join = any if kind == "ClauseOr" else all
        return lambda name: join(one(name) for one in inner)
    if kind == "ClauseRegex":
        pattern = re.compile(clause["regex"])
        return lambda name: pattern.search(name.lower()) is not None
    (value,) = (str(text).lower() for key, text in clause.items() if key != "_")
    tests: dict[str, Callable[[str], bool]] = {
        "ClauseEquals": lambda name: name.lower() == value,
        "ClauseStartsWith": lambda name: name.lower().startswith(value),
        "ClauseEndsWith": lambda name: name.lower().endswith(value),
        "ClauseContains": lambda name: value in name.lower(),
    }
    return tests[kind]


def _equals(clause: dict[str, Any]) -> Iterator[str]:
    if clause["_"] == "ClauseEquals":
        yield clause["equals"]
    for one in clause.get("or_", ()):
        yield from _equals(one)


# --- litellm


def read_litellm(text: str) -> dict[str, list[Model]]:
    """Models by the source's own provider ids."""
    found: dict[str, list[Model]] = {}
    for name, raw in json.loads(text, parse_float=Decimal).items():
        provider = raw.get("litellm_provider")
        mode = MODES.get(raw.get("mode") or "chat")
        if provider and mode and name != "sample_spec" and not NOT_A_NAME.search(name):
            found.setdefault(provider, []).append(litellm_model(name, provider, mode, raw))
    return found


def litellm_model(name: str, provider: str, mode: str, raw: dict[str, Any]) -> Model:
    """One model of litellm, by the name its provider knows it under."""
    prices = {kind: Decimal(raw[key]) * MILLION for kind, key in PRICES_LITELLM.items() if raw.get(key) is not None}
    caveats = (
        {"tiers"} if any("_above_" in key and "_tokens" in key for key in raw) or "tiered_pricing" in raw else set()
    )
    if any(key.startswith(("output_cost_per_", "input_cost_per_")) and "_token" not in key for key in raw):
        caveats.add("beside")
    inputs = [*(raw.get("supported_modalities") or ["text"]), *(word for key, word in INPUTS.items() if raw.get(key))]
    outputs = [
        *(raw.get("supported_output_modalities") or [OUTPUT_OF.get(mode, "text")]),
        *(word for key, word in OUTPUTS.items() if raw.get(key)),
    ]
    return Model(
        id=_own_name(name, provider),
        prices=prices,
        caveats=caveats,
        mode=mode,
        context=_count(raw.get("max_input_tokens")),
        max_output=_count(raw.get("max_output_tokens")),
        inputs=sorted({str(word).lower() for word in inputs}),
        outputs=sorted({str(word).lower() for word in outputs}),
        capabilities=[word for key, word in CAPABILITIES.items() if raw.get(key)],
        deprecated=str(raw.get("deprecation_date") or ""),
    )


def _own_name(name: str, provider: str) -> str:
    """litellm puts its own word for the provider before a name: `groq/openai/gpt-oss-20b` is `openai/gpt-oss-20b`."""
    first, _, rest = name.partition("/")
    words = {provider, provider.partition("-")[0], provider.removesuffix("_chat")}
    return rest if rest and first in words else name


def _count(value: Any) -> int:
    text = str(value if value is not None else 0)
    return int(text) if text.isdigit() else 0
