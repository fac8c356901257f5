"""Money: prices are integer pico-dollars per token, costs integer nano-dollars, rounded once and half up."""

from decimal import Decimal

from fastgw.call import Usage
from fastgw.plan.plan import Price

PICO_PER_DOLLAR = 10**12
PICO_PER_NANO = 1000


def per_million(dollars: str | int | float) -> int:
    """Dollars per million tokens, as vendors print prices, in pico-dollars per token.

    Goes through the decimal spelling, so that 0.15 is exactly 150,000. Raises ValueError when negative or finer than a
    pico-dollar a token.
    """
    pico = Decimal(str(dollars)) * PICO_PER_DOLLAR / 10**6
    if not pico.is_finite() or pico < 0:
        raise ValueError("a price is a number of dollars, 0 or more")
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
