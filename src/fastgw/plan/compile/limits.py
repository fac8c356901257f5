"""Limits: what is written as `600/min` becomes rules over slots of the shared table."""

from math import ceil

from fastgw._core import table as shared
from fastgw.plan import config as written
from fastgw.plan import units
from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Rule
from fastgw.state.table import compile_rate, slot_id


def rules(context: Context, level: str, owner: str, one: written.Limits, path: str) -> tuple[Rule, ...]:
    if one.requests is None:
        if one.burst is not None:
            context.errors.append(f"{path}.burst: needs `requests` beside it")
        return ()
    limit, period = context.attempt(f"{path}.requests", units.rate, one.requests, default=(1, 1.0))
    burst = max(1, ceil(limit / 10)) if one.burst is None else one.burst
    if burst < 1:
        context.errors.append(f"{path}.burst: must be 1 or more")
        return ()
    interval, tau = context.attempt(path, compile_rate, limit, int(period), burst, default=(1, 0))
    try:
        shared.Rules([(0, interval, tau)])
        slot = context.table.slot(slot_id(level, owner, "rate", "requests", f"{int(period)}s"))
    except ValueError:
        context.errors.append(f"{path}.burst: {burst} is too large for {limit} requests per {int(period)} s")
        return ()
    except shared.TableError as error:
        context.errors.append(f"{path}: no room for another limit: {error}")
        return ()
    return (Rule(level, owner, limit, period, burst, slot, interval, tau),)
