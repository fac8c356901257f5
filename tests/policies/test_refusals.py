"""A refusal says which rule, whose, how much is used and when to come again."""

import pytest

from fastgw.plan.plan import Rule
from fastgw.policies.refusals import refusal


def rule(kind, unit, per, limit, level="key", owner="web", burst=0):
    return Rule(level, owner, kind, unit, per, limit, burst)


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (
            refusal(rule("rate", "requests", "min", 600, burst=60), 0.25, 60, 1),
            "Rate limit reached for key 'web': 600 requests per minute, burst 60. Try again in 0.250 s.",
        ),
        (
            refusal(rule("window", "requests", "day", 1000, "gateway", ""), 11_111, 1000, 1),
            "Rate limit reached for this gateway: 1000 requests per day (UTC), 1000 used. Try again in 3 h 5 min.",
        ),
        (
            refusal(rule("window", "requests", "total", 5), None, 5, 1),
            "Rate limit reached for key 'web': 5 requests in total, 5 used.",
        ),
        (
            refusal(rule("rate", "tokens", "min", 1000, "model", "fast", 1000), None, 0, 2000),
            "Rate limit reached for model 'fast': 1000 tokens per minute; this call may use 2000, more than there ever "
            "are at once: ask for a shorter answer.",
        ),
        (
            refusal(rule("window", "tokens", "hour", 1000), 61.5, 900, 200),
            "Rate limit reached for key 'web': 1000 tokens per hour (UTC), 900 used; this call may use 200. "
            "Try again in 1 min 1 s.",
        ),
        (
            refusal(rule("concurrent", "calls", "", 50), 1.0, 50, 1),
            "Too many calls at once for key 'web': 50 are running and 50 may. Wait until one has ended.",
        ),
        (
            refusal(rule("window", "nano", "month", 10 * 10**9), 3 * 86400 + 4 * 3600, 9_990_000_000, 20_000_000),
            "Budget reached for key 'web': $10.0 per month (UTC), $9.99 used or held back for calls that are running, "
            "and this one may cost up to $0.02. Try again in 3 d 4 h.",
        ),
    ],
)
def test_the_words(refused, expected):
    assert refused.message == expected


def test_each_kind_of_limit_has_its_kind_of_error():
    kinds = [
        refusal(rule("rate", "tokens", "s", 1), 1.0, 1, 1),
        refusal(rule("window", "nano", "day", 1), 1.0, 1, 1),
        refusal(rule("concurrent", "calls", "", 1), 1.0, 1, 1),
    ]
    assert [(one.kind, one.status, one.retry_after) for one in kinds] == [
        ("rate_limit_exceeded", 429, 1.0),
        ("budget_exceeded", 429, 1.0),
        ("concurrency_limit_exceeded", 429, 1.0),
    ]
