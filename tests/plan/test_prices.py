"""Money is exact: no float ever decides a digit."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.call import Usage
from fastgw.plan.plan import Price
from fastgw.plan.prices import MAX_PRICE, cost_nano, dollars, per_million

tokens = st.integers(0, 2**31 - 1)
pico = st.integers(0, MAX_PRICE)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0.15, 150_000),
        ("0.15", 150_000),
        (0.075, 75_000),
        (0.1 + 0.2 - 0.1, None),
        (15, 15_000_000),
        (0, 0),
        ("0.150000000000", 150_000),
        ("1e-6", 1),
        (0.000001, 1),
        ("1000000", MAX_PRICE),
    ],
)
def test_a_price_goes_by_its_decimal_spelling(written, expected):
    if expected is None:
        with pytest.raises(ValueError, match="six decimals"):
            per_million(written)
    else:
        assert per_million(written) == expected


@pytest.mark.parametrize("bad", [-1, "-0.1", "abc", "", "NaN", "sNaN", "inf", float("nan"), float("inf"), "1000000.1"])
def test_what_is_no_price(bad):
    with pytest.raises(ValueError, match="a price is a number of dollars"):
        per_million(bad)


@pytest.mark.parametrize("bad", ["1e400", "1e-400", "1e-99999999999", "9" * 5000, "0.15" + "0" * 99 + "1"])
def test_a_price_beyond_all_bounds_is_refused_and_takes_no_time(bad):
    with pytest.raises(ValueError):
        per_million(bad)


@given(st.integers(0, MAX_PRICE))
def test_every_price_of_six_decimals_is_read_exactly(value):
    assert per_million(f"{value // 10**6}.{value % 10**6:06d}") == value


@given(
    st.builds(Price, input=pico, output=pico, cached=pico, cache_write=pico),
    st.builds(Usage, input=tokens, output=tokens, cached=tokens, cache_write=tokens),
)
def test_a_cost_is_rounded_once_half_up_and_fits_in_63_bits(price, usage):
    plain = max(usage.input - usage.cached - usage.cache_write, 0)
    exact = Fraction(
        plain * price.input
        + usage.cached * price.cached
        + usage.cache_write * price.cache_write
        + usage.output * price.output,
        1000,
    )
    cost = cost_nano(price, usage)
    assert cost - Fraction(1, 2) <= exact < cost + Fraction(1, 2)
    assert 0 <= cost < 2**63


@pytest.mark.parametrize(("output", "nano"), [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2)])
def test_halves_go_up(output, nano):
    assert cost_nano(Price(output=1), Usage(output=output)) == nano


def test_cached_tokens_are_part_of_the_input():
    price = Price(input=1000, output=10_000, cached=100, cache_write=2000)
    usage = Usage(input=100, cached=30, cache_write=20, output=5, reasoning=4)
    assert cost_nano(price, usage) == 50 + 3 + 40 + 50


def test_more_cached_than_input_never_lowers_the_cost():
    assert cost_nano(Price(input=1000, cached=0), Usage(input=1, cached=100)) == 0


@given(st.integers(0, 2**63))
def test_dollars_go_round_through_decimal(nano):
    text = dollars(nano)
    assert Decimal(text) * 10**9 == nano
    assert "E" not in text.upper()
    assert len(text.partition(".")[2]) <= 9


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0.0"), (1, "0.000000001"), (1500, "0.0000015"), (10**9, "1.0"), (2_500_000_000, "2.5")]
)
def test_dollars(nano, text):
    assert dollars(nano) == text


def test_a_call_costs_what_the_price_list_says():
    price = Price(input=per_million(0.15), output=per_million(0.60))
    cost = cost_nano(price, Usage(input=1234, output=567))
    by_hand = (Decimal(1234) * Decimal("0.15") + Decimal(567) * Decimal("0.60")) / 10**6 * 10**9
    assert cost == by_hand.quantize(Decimal(1), ROUND_HALF_UP) == 525_300


def test_reasoning_at_a_price_of_its_own():
    price = Price(output=1000, reasoning=3000)
    assert cost_nano(price, Usage(output=10, reasoning=4)) == 6 + 12
    assert cost_nano(price, Usage(output=2, reasoning=9)) == 6  # never more of it than there was output
    assert cost_nano(Price(output=1000, reasoning=0), Usage(output=10, reasoning=4)) == 6
    assert cost_nano(Price(output=1000), Usage(output=10, reasoning=4)) == 10
