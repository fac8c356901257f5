"""Limits as they are written become rules that a table can keep, and never more than a call has room for."""

import msgspec
import pytest

from fastgw._core import table
from fastgw.plan.compile import limits
from fastgw.plan.config import Limits
from fastgw.policies.limits import native

SIX = {
    "concurrent": 9,
    "requests": ["100/s", "9000/day"],
    "tokens": ["100000/min", "9000000/month"],
    "budget": "10/month",
}


def drafted(**fields):
    return limits.draft(msgspec.convert(fields, Limits))


def test_every_level_may_have_as_many_as_a_call_can_be_charged_for():
    assert len(limits.LEVELS) * limits.MAX_LIMITS <= table.MAX_CHARGES < len(limits.LEVELS) * (limits.MAX_LIMITS + 1)
    assert limits.MAX_LIMITS == 6


def test_six_limits_are_taken_and_a_seventh_is_an_error():
    made, errors = drafted(**SIX)
    assert (len(made), errors) == (6, [])
    _, errors = drafted(**SIX, soft_budget="5/month")
    assert errors == [": 7 limits; one owner may have 6"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"requests": "1/min", "burst": 100_000_000},
            ".burst: 100000000 at once and 1 per min cannot be counted: inter",
        ),
        ({"tokens": "9223372036854775808/s"}, ".tokens: '9223372036854775808/s' is not"),
        ({"requests": "1000000001/s"}, ".requests: "),
        ({"requests": "5/s", "burst": 0}, ".burst: must be 1 or more"),
    ],
)
def test_what_the_table_cannot_count_is_an_error_here(fields, error):
    _, errors = drafted(**fields)
    assert len(errors) == 1
    assert errors[0].startswith(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"requests": "1000000000/s", "burst": 1_000_000_000},
        {"requests": "1/min", "burst": 76_000_000},
        {"requests": ["999999999999/hour", "999999999999/total"], "tokens": "999999999999/day"},
        {"budget": ["1000000000/hour", "0.000000001/day"], "soft_budget": "1000000000/total"},
        {"concurrent": 1_000_000},
    ],
)
def test_what_is_no_error_here_the_table_takes(fields):
    """To the largest figures: a worker must never meet a rule that its table refuses."""
    made, errors = drafted(**fields)
    assert errors == []
    assert len(table.Limits([native(rule)._replace(slot=0) for rule in made])) == len(made)
