"""OpenRouter's words for who should answer: the fields `models` and `provider` of a request.

Sources: https://openrouter.ai/docs/features/model-routing, https://openrouter.ai/docs/features/provider-routing. Here
they choose among the models and providers of this gateway. What is not listed below is refused by its path, never
ignored: who asks for `zdr` must not be served without it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from fastgw._core import fields
from fastgw.errors import GatewayError
from fastgw.plan.prices import per_million

MODELS, PROVIDER = b"models", b"provider"
MAX_MODELS = 8
MAX_NAMES = 64
MAX_NAME = 256
SHOWN_MAX = 64
UNMEASURED = frozenset({"throughput", "latency"})


class Preferences(Struct, frozen=True):
    """A `provider` object. Names are lower case and stand for providers or kinds of provider.

    `order` first, `only` these (None: all), `ignore` never; `by_price`: the cheapest first. `prompt` and `completion`
    are the most a token may cost, in pico-dollars. `fallbacks` False: what stands in `order`, or else one attempt.
    """

    order: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    by_price: bool = False
    prompt: int | None = None
    completion: int | None = None
    fallbacks: bool = True


class Wishes(Struct):
    """What one request says of who should answer.

    `models` are further names, in their order; `provider` is the raw value of that field (None: not there) and `passed`
    the request with it, for a provider that is an OpenRouter itself. `preferences` is `provider` as it was read, and
    `others` what `models` were found to mean; both come from whoever looks the names up.
    """

    models: tuple[str, ...]
    provider: bytes | None
    passed: fields.Fields
    preferences: Preferences | None = None
    others: tuple[Any, ...] = ()


def read_models(raw: bytes) -> tuple[str, ...]:
    """The names in a `models` field, each once. Raises GatewayError (`invalid_type`)."""
    names = _names("models", _decode("models", raw), MAX_MODELS)
    return tuple(dict.fromkeys(names))


def read_preferences(raw: bytes) -> Preferences:
    """A `provider` field. Raises GatewayError: `invalid_type`, or `unsupported_field` for a member not served."""
    value = _decode("provider", raw)
    if value is None:
        return Preferences()
    if not isinstance(value, dict):
        raise _wrong("provider", "an object")
    read: dict[str, Any] = {}
    for name, member in value.items():
        reader = READERS.get(name)
        if reader is None:
            raise _unsupported(f"provider.{name[:SHOWN_MAX]}", f"served are {', '.join(READERS)}")
        if member is not None:
            read.update(reader(f"provider.{name}", member))
    return Preferences(**read)


def _order(path: str, value: Any) -> dict[str, Any]:
    return {"order": tuple(dict.fromkeys(name.lower() for name in _names(path, value, MAX_NAMES)))}


def _only(path: str, value: Any) -> dict[str, Any]:
    return {"only": frozenset(name.lower() for name in _names(path, value, MAX_NAMES))}


def _ignore(path: str, value: Any) -> dict[str, Any]:
    return {"ignore": frozenset(name.lower() for name in _names(path, value, MAX_NAMES))}


def _sort(path: str, value: Any) -> dict[str, Any]:
    if value == "price":
        return {"by_price": True}
    if isinstance(value, str) and value in UNMEASURED:
        raise _unsupported(path, f"{value} is not measured by this gateway; `price` can be sorted by")
    raise _wrong(path, "`price`")


def _max_price(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, "an object with `prompt` and `completion`")
    read: dict[str, Any] = {}
    for name, price in value.items():
        if name not in ("prompt", "completion"):
            raise _unsupported(f"{path}.{name[:SHOWN_MAX]}", "served are prompt, completion")
        if isinstance(price, bool) or not isinstance(price, str | int | float | None):
            raise _wrong(f"{path}.{name}", "a number of dollars for a million tokens")
        try:
            read[name] = None if price is None else per_million(price)
        except ValueError as error:
            raise GatewayError("invalid_type", f"{path}.{name}: {error}", param=f"{path}.{name}") from None
    return read


def _fallbacks(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, bool):
        raise _wrong(path, "true or false")
    return {"fallbacks": value}


READERS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "order": _order,
    "only": _only,
    "ignore": _ignore,
    "sort": _sort,
    "max_price": _max_price,
    "allow_fallbacks": _fallbacks,
}


def _decode(path: str, raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong(path, "a value that can be read") from None


def _names(path: str, value: Any, most: int) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(path, f"a list of {most} names at most")
    for index, name in enumerate(value):
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise _wrong(f"{path}[{index}]", f"a name of 1 to {MAX_NAME} characters")
    return value


def _wrong(path: str, expected: str) -> GatewayError:
    return GatewayError("invalid_type", f"{path} must be {expected}.", param=path)


def _unsupported(path: str, why: str) -> GatewayError:
    return GatewayError("unsupported_field", f"{path} cannot be served: {why}. Leave it out.", param=path)
