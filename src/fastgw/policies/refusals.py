"""What a caller is told when a limit refuses: which rule, whose, what is used, and when to come again."""

from fastgw.errors import GatewayError
from fastgw.plan.plan import Rule
from fastgw.plan.prices import dollars

PERIODS = {"s": "second", "min": "minute", "hour": "hour (UTC)", "day": "day (UTC)", "month": "month (UTC)"}
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def refusal(rule: Rule, wait_s: float | None, used: int, asked: int) -> GatewayError:
    """The error for a call that this rule refuses.

    Args:
        rule: the rule.
        wait_s: seconds until it may pass, None when waiting does not help.
        used: what is used of it, in its unit.
        asked: what the call may come to use of it, in its unit; of no matter for requests and calls at once.
    """
    whose = "this gateway" if rule.level == "gateway" else f"{rule.level} {rule.owner!r}"
    again = f" Try again in {_span(wait_s)}." if wait_s is not None else ""
    if rule.kind == "concurrent":
        return GatewayError(
            "concurrency_limit_exceeded",
            f"Too many calls at once for {whose}: {used} are running and {rule.limit} may. Wait until one has ended.",
            retry_after=wait_s,
        )
    if rule.unit == "nano":
        return GatewayError(
            "budget_exceeded",
            f"Budget reached for {whose}: {_dollars(rule.limit)} {_per(rule)}, {_dollars(used)} used or held back for "
            f"calls that are running, and this one may cost up to {_dollars(asked)}.{again}",
            retry_after=wait_s,
        )
    return GatewayError("rate_limit_exceeded", _rate(rule, whose, wait_s, used, asked) + again, retry_after=wait_s)


def _rate(rule: Rule, whose: str, wait_s: float | None, used: int, asked: int) -> str:
    limit = f"Rate limit reached for {whose}: {rule.limit} {rule.unit} {_per(rule)}"
    if rule.kind == "rate":
        limit += f", burst {rule.burst}" if rule.unit == "requests" else ""
    else:
        limit += f", {used} used"
    if rule.unit == "tokens":
        limit += f"; this call may use {asked}"
        if wait_s is None:
            limit += ", more than there ever are at once: ask for a shorter answer"
    return limit + "."


def _per(rule: Rule) -> str:
    return "in total" if rule.per == "total" else f"per {PERIODS[rule.per]}"


def _dollars(nano: int) -> str:
    return "$" + dollars(nano)


def _span(seconds: float) -> str:
    """`0.250 s`, `2 min 5 s`, `3 d 4 h`: the two largest units."""
    if seconds < 60:
        return f"{seconds:.3f} s"
    left = int(seconds)
    parts: list[str] = []
    for size, name in UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join([*parts, f"{left} s"][:2])
