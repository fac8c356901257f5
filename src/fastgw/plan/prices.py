"""Money: prices are integer pico-dollars per token, costs integer nano-dollars, rounded once and half up."""

import re
from collections.abc import Mapping
from decimal import Context, Inexact, InvalidOperation
from typing import TypeVar

from fastgw.call import Usage
from fastgw.plan.plan import Price

PICO_PER_DOLLAR = 10**12
PICO_PER_NANO = 1000
# A dollar a token: with it, and with what a dialect takes for a number of tokens, every cost fits in 63 bits.
MAX_PRICE = 1_000_000 * PICO_PER_DOLLAR // 10**6
# 2024-07-18, 20240718: a version of a model, at the price of the model where that version has none of its own.
DATED = re.compile(r"[-@]20[0-9]{2}(?P<dash>-?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12][0-9]|3[01])$")
MAX_PER_REQUEST = 1000 * PICO_PER_DOLLAR
T = TypeVar("T")
EXACT = Context(prec=60, traps=[InvalidOperation, Inexact])


def per_million(dollars: str | int | float) -> int:
    """Dollars per million tokens, as vendors print prices, in pico-dollars per token.

    Goes through the decimal spelling, so that 0.15 is exactly 150,000. Raises ValueError when negative, above a
    million, or finer than a pico-dollar a token.
    """
    try:
        pico = EXACT.multiply(EXACT.create_decimal(str(dollars)), EXACT.create_decimal(PICO_PER_DOLLAR // 10**6))
    except ArithmeticError:
        raise ValueError("a price is a number of dollars, 0 or more, such as 0.15") from None
    if not pico.is_finite() or not 0 <= pico <= MAX_PRICE:
        raise ValueError("a price is a number of dollars from 0 to 1,000,000 (per million tokens)")
    if pico != pico.to_integral_value():
        raise ValueError("a price has at most six decimals (dollars per million tokens)")
    return int(pico)


def per_request(dollars: str | int | float) -> int:
    """Dollars per request in pico-dollars. Raises ValueError as `per_million` does, above a thousand dollars too."""
    pico = per_million(dollars) * 10**6
    if pico > MAX_PER_REQUEST:
        raise ValueError("a price per request is a number of dollars from 0 to 1,000")
    return pico


def cost_nano(price: Price, usage: Usage) -> int:
    """What one request with this `usage` costs at `price`, in nano-dollars.

    `usage.input` includes the cached and cache-write tokens, `usage.output` those of reasoning.
    """
    cached, written = usage.cached, usage.cache_write
    pico = usage.output * price.output + price.request
    if cached or written:
        plain = max(usage.input - cached - written, 0)
        pico += plain * price.input + cached * price.cached + written * price.cache_write
    else:
        pico += usage.input * price.input
    if price.reasoning is not None:
        pico += min(usage.reasoning, usage.output) * (price.reasoning - price.output)
    return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO


def dollars(nano: int) -> str:
    """Nano-dollars as an exact decimal number of dollars, without an exponent: 1500 → `0.0000015`."""
    whole, fraction = divmod(nano, 1_000_000_000)
    text = f"{whole}.{fraction:09}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def look_up(table: Mapping[str, T], model: str) -> T | None:
    """The row of a vendor's model: of that name; else of the name without what stands behind it.

    That is a date (`gpt-4o-2024-08-06`), `-latest`, or the owner of a fine-tuned model: `ft:gpt-4o:acme::x1` is
    `ft:gpt-4o`, which costs more than `gpt-4o` and is never taken for it. Other endings (`:free`, `-fast`, a size) are
    other models at other prices.
    """
    found = table.get(model)
    if found is not None:
        return found
    if model.startswith("ft:"):
        model = ":".join(model.split(":", 2)[:2])
        found = table.get(model)
    return table.get(DATED.sub("", model).removesuffix("-latest")) if found is None else found
