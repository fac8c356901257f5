"""Money: prices are integer pico-dollars per token, costs integer nano-dollars, rounded once and half up."""

from decimal import Context, Inexact, InvalidOperation

from fastgw.call import Usage
from fastgw.plan.plan import Price

PICO_PER_DOLLAR = 10**12
PICO_PER_NANO = 1000
# A dollar a token: with it, and with what a dialect takes for a number of tokens, every cost fits in 63 bits.
MAX_PRICE = 1_000_000 * PICO_PER_DOLLAR // 10**6
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


def cost_nano(price: Price, usage: Usage) -> int:
    """What `usage` costs at `price`, in nano-dollars. `usage.input` includes the cached and cache-write tokens."""
    plain = usage.input - usage.cached - usage.cache_write
    pico = (
        max(plain, 0) * price.input
        + usage.cached * price.cached
        + usage.cache_write * price.cache_write
        + usage.output * price.output
    )
    return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO


def dollars(nano: int) -> str:
    """Nano-dollars as an exact decimal number of dollars, without an exponent: 1500 → `0.0000015`."""
    whole, fraction = divmod(nano, 10**9)
    text = f"{whole}.{fraction:09d}".rstrip("0")
    return text + "0" if text.endswith(".") else text
