"""What may be used: requests, tokens, calls at once and money, taken all together or not at all, settled at the end.

A call takes in two steps. When its model is known, what limits of key, model and gateway on requests, tokens and calls
at once want; for each target that is asked, what that target's limits and every budget want, since what a call may cost
depends on who serves it. Where a model has one target both are one step. A target whose own limit is used up is passed
over; any other limit refuses the call.
"""

from typing import NamedTuple, NoReturn, TypeVar

from fastgw._core import fields, table
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.keyring import Remembered
from fastgw.plan.plan import Key, Model, Plan, Price, Rule
from fastgw.plan.prices import PICO_PER_NANO
from fastgw.policies import estimate
from fastgw.policies.base import Env
from fastgw.policies.refusals import refusal
from fastgw.state.table import HOUR_S, window_end, windows
from fastgw.upstream.route import Route, Way

NS = 10**9
UNITS = {"requests": table.REQUESTS, "tokens": table.TOKENS, "nano": table.NANO, "calls": table.REQUESTS}
WINDOWS = {"hour": table.HOUR, "day": table.DAY, "month": table.MONTH, "total": table.TOTAL}
NOTHING = (0, 0)
K = TypeVar("K")
V = TypeVar("V")


class Side(NamedTuple):
    """Limits that are taken together: as they are written, and as the table takes them.

    `tokens`: one of them is on tokens; `money`: one is a budget; `budget`: one is a budget that refuses.
    """

    rules: tuple[Rule, ...]
    limits: tuple[table.Limits, ...]
    tokens: bool
    money: bool
    budget: bool


def native(rule: Rule) -> table.Limit:
    """A rule as the table takes it."""
    kind = {"rate": table.RATE, "concurrent": table.CONCURRENT}.get(rule.kind) or WINDOWS[rule.per]
    return table.Limit(rule.slot, kind, UNITS[rule.unit], rule.limit, rule.interval_ns, rule.tau_ns, rule.soft)


def side(*owners: tuple[Rule, ...]) -> Side:
    """The limits of these owners, to be taken together in this order."""
    rules = tuple(rule for owner in owners for rule in owner)
    limits = table.Limits([native(rule) for rule in rules])
    tokens = any(rule.unit == "tokens" for rule in rules)
    money = [rule for rule in rules if rule.unit == "nano"]
    return Side(rules, (limits,), tokens, bool(money), any(not rule.soft for rule in money))


def _early(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.unit != "nano")


def _late(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.unit == "nano")


class Both(NamedTuple):
    """What a call and the only attempt it may come to take together: `first` is the number of the attempt's part.

    `rates` is the attempt's most in pico-dollars: a token read, one written, the request; None without one price.
    """

    limits: Side
    first: int
    rates: tuple[int, int, int] | None


class Limiter:
    """The limits of one plan over the shared table."""

    def __init__(self, plan: Plan, env: Env) -> None:
        self._book = env.book
        self._clock = env.clock
        self._gateway = plan.rules
        # By key (those without limits are one), then by the model's or the target's name: worked out on first use.
        self._calls: Remembered[bytes, dict[str, Side]] = Remembered()
        self._both: Remembered[tuple[bytes, str], Both] = Remembered()
        self._attempts: Remembered[bytes, dict[tuple[str, str], Side]] = Remembered()
        self._turn(0.0)

    def enter(self, call: Call) -> None:
        """Note the call among those in flight and take what it takes at once. Raises GatewayError."""
        now = call.epoch_s = self._clock()
        key, model = call.key, call.model.model
        call.entry = self._book.begin(call.id16, call.now_ns, int(now), key.name.encode(), model.name.encode())
        if call.entry < 0:
            raise GatewayError("overloaded", "This worker has too many calls in flight; try again.", retry_after=1)
        ways = call.model.ways
        if len(ways) != 1 or model.fallback:
            limits = self._of_call(key, model)
            if limits.rules:
                self._take(call, limits, 0)
                call.attempt_charge = len(limits.rules)
            return
        # Who will be asked is known already: one step instead of two.
        both = self._both.get((key.digest if key.rules else b"", model.name))
        if both is None:
            both = self._of_both(key, model, ways[0])
        limits = both.limits
        call.taken = ways[0]
        if limits.rules:
            nano = 0
            if limits.money:
                if both.rates is None:
                    nano = self._cost(call, limits, ways[0])
                else:
                    given, made = call.reserved or self._reserved(call)
                    read, written, fixed = both.rates
                    nano = -(-(given * read + made * written + fixed) // PICO_PER_NANO)
            self._charge(call, limits, nano)
        call.attempt_charge = both.first

    def enter_model(self, call: Call, route: Route) -> None:
        """Take what limits of another model want, which is to answer in place of the one asked for."""
        limits = side(_early(route.model.rules))
        if call.entry >= 0 and not self._has_room(call, route, limits):
            raise GatewayError(
                "bad_request",
                f"The model {route.name!r} has more limits than this call can be counted by. Name fewer in `models`.",
                param="models",
            )
        if limits.rules:
            refused = self._try(call, limits, 0)
            if refused is not None:
                call.refused_by = ""  # it is passed over, and nobody is refused yet
                raise refused
            call.attempt_charge = self._book.charges(call.entry)

    def _has_room(self, call: Call, route: Route, limits: Side) -> bool:
        """Whether what another model and any one of its targets take fits beside what the call has taken."""
        late = max((len(self._of_attempt(call.key, route.model, way).rules) for way in route.ways), default=0)
        return self._book.charges(call.entry) + len(limits.rules) + late <= table.MAX_CHARGES

    def attempt(self, call: Call, way: Way) -> GatewayError | None:
        """Take what asking this target takes; its refusal when limits of its own are used up. Raises GatewayError."""
        if call.taken is way:
            return None
        limits = self._of_attempt(call.key, call.model.model, way)
        if not limits.rules:
            return None
        nano = self._cost(call, limits, way)
        if not way.rules:
            self._take(call, limits, nano)
            return None
        refused = self._try(call, limits, nano)
        if refused is not None and call.refused_by != "target":
            raise refused
        call.refused_by = ""
        return refused

    def _cost(self, call: Call, limits: Side, way: Way) -> int:
        """What asking this target may cost, in nano-dollars, where a budget asks. Raises GatewayError (no price)."""
        if not limits.money:
            return 0
        price = way.price_for(call.upstream_model)
        if price is None:
            if limits.budget and not call.model.model.allow_unpriced:
                raise _unpriced(call, way)
            return 0
        return _most(price, self._reserved(call))

    def sent(self, call: Call) -> None:
        """Say that the call goes upstream now: from here on it may cost something, whatever becomes of this worker."""
        if not call.sent:
            call.sent = True
            self._book.mark_sent(call.entry)

    def retreat(self, call: Call) -> None:
        """Give back what the attempt that has failed took: it cost nothing."""
        if self._book.charges(call.entry) > call.attempt_charge:
            self._book.settle(call.entry, call.attempt_charge, 0, 0, 0, call.now_ns)

    def _of_call(self, key: Key, model: Model) -> Side:
        found = _of_key(self._calls, key)
        limits = found.get(model.name)
        if limits is None:
            limits = found[model.name] = side(_early(key.rules), _early(model.rules), _early(self._gateway))
        return limits

    def _of_both(self, key: Key, model: Model, way: Way) -> Both:
        early = (*_early(key.rules), *_early(model.rules), *_early(self._gateway))
        late = (*way.rules, *_late(key.rules), *_late(model.rules), *_late(self._gateway))
        rates = _rates(way.price) if way.price is not None and way.model else None
        both = Both(side(early, late), len(early), rates)
        return self._both.remember((key.digest if key.rules else b"", model.name), both)

    def _of_attempt(self, key: Key, model: Model, way: Way) -> Side:
        found = _of_key(self._attempts, key)
        limits = found.get((model.name, way.name))
        if limits is None:
            limits = side(way.rules, _late(key.rules), _late(model.rules), _late(self._gateway))
            found[model.name, way.name] = limits
        return limits

    def _reserved(self, call: Call) -> tuple[int, int]:
        """Input and output tokens the call may come to use; worked out once, and only where a limit asks."""
        if call.reserved is None:
            content = call.content
            call.reserved = NOTHING
            if isinstance(content, fields.Fields):
                output = call.model.model.reserve_output
                call.reserved = estimate.tokens(call.operation, content, call.bytes_in, output)
        return call.reserved

    def _try(self, call: Call, limits: Side, nano: int) -> GatewayError | None:
        """As `_take`, the refusal given back: it may be that of one who is passed over."""
        before = dict(call.ratelimit)
        try:
            self._take(call, limits, nano)
        except GatewayError as refused:
            call.ratelimit = before
            return refused
        return None

    def _charge(self, call: Call, limits: Side, nano: int) -> None:
        """As `_take`, in the only step that there is: what the answer tells of it is known at once."""
        reserved = call.reserved
        if reserved is None:
            reserved = self._reserved(call) if limits.tokens else NOTHING
        tokens = reserved[0] + reserved[1]
        now = call.epoch_s
        if now // HOUR_S != self._hour:
            self._turn(now)
        taken = self._book.charge(
            call.entry, limits.limits[0], tokens, nano, call.now_ns, self._windows, self._ends, now
        )
        if len(taken) > 2:
            self._refuse(call, limits.rules, taken, tokens, nano)
        call.told, soft = taken
        if soft:
            call.soft = tuple(rule for n, rule in enumerate(limits.rules) if soft >> n & 1)

    def _turn(self, now: float) -> None:
        """Another hour has begun."""
        self._hour, self._windows = now // HOUR_S, windows(int(now))
        hour, day, month = (window_end(kind, int(now)) or 0 for kind in (table.HOUR, table.DAY, table.MONTH))
        self._ends = hour, day, month

    def _take(self, call: Call, limits: Side, nano: int) -> None:
        rules = limits.rules
        reserved = call.reserved
        if reserved is None:
            reserved = self._reserved(call) if limits.tokens or limits.money else NOTHING
        tokens = reserved[0] + reserved[1]
        if call.epoch_s // HOUR_S != self._hour:
            self._turn(call.epoch_s)
        taken = self._book.take(call.entry, limits.limits, 1, tokens, nano, call.now_ns, self._windows)
        if taken[0] >= 0:
            self._refuse(call, rules, taken, tokens, nano)
        _, _, _, tight, left, reset, tight_tokens, left_tokens, reset_tokens, soft = taken
        if tight >= 0:
            self._tell(call, rules[tight], left, reset)
        if tight_tokens >= 0:
            self._tell(call, rules[tight_tokens], left_tokens, reset_tokens)
        if soft:
            call.soft = (*call.soft, *(rule for n, rule in enumerate(rules) if soft >> n & 1))

    def _refuse(self, call: Call, rules: tuple[Rule, ...], taken: table.Taken, tokens: int, nano: int) -> NoReturn:
        refused, wait_ns, used = taken[:3]
        rule = rules[refused]
        call.refused_by = rule.level
        wait = _wait(rule, wait_ns, call.epoch_s)
        if rule.unit in ("requests", "tokens"):
            self._tell(call, rule, 0, int((wait or 0.0) * NS))
        raise refusal(rule, wait, used, tokens if rule.unit == "tokens" else nano)

    def _tell(self, call: Call, rule: Rule, remaining: int, reset_ns: int) -> None:
        """Remember the tightest limit of each unit for the answer's headers."""
        told, unit = call.ratelimit, rule.unit
        if unit not in told or remaining < told[unit][1]:
            if rule.kind != "rate":
                reset_ns = int((_left(rule, call.epoch_s) or 0.0) * NS)
            told[unit] = rule.limit, remaining, reset_ns


def _of_key(cache: Remembered[bytes, dict[K, V]], key: Key) -> dict[K, V]:
    """What is known of a key's limits; the keys without any are one."""
    digest = key.digest if key.rules else b""
    found = cache.get(digest)
    return cache.remember(digest, {}) if found is None else found


def _unpriced(call: Call, way: Way) -> GatewayError:
    return GatewayError(
        "price_unknown",
        f"A budget applies to this call, and the price of {way.provider}/{call.upstream_model or way.model} is not "
        "known. Whoever runs this gateway can give the target a `price`, or set `allow_unpriced` on the model.",
        param="model",
    )


def _most(price: Price, reserved: tuple[int, int]) -> int:
    """What a call with these tokens costs at most, in nano-dollars: its input at the dearest kind of input."""
    read, written, fixed = _rates(price)
    return -(-(reserved[0] * read + reserved[1] * written + fixed) // PICO_PER_NANO)


def _rates(price: Price) -> tuple[int, int, int]:
    """The most that a token read and one written may cost, and what a request does, in pico-dollars."""
    return max(price.input, price.cached, price.cache_write), max(price.output, price.reasoning or 0), price.request


def _wait(rule: Rule, wait_ns: int, epoch_s: float) -> float | None:
    """Seconds until the rule may let the call pass; None when waiting does not help."""
    if rule.kind == "concurrent":
        return 1.0
    if rule.kind == "window":
        return _left(rule, epoch_s)
    return None if wait_ns == table.NEVER else wait_ns / NS


def _left(rule: Rule, epoch_s: float) -> float | None:
    """Seconds until a window ends; None for what never does."""
    end = window_end(WINDOWS[rule.per], int(epoch_s))
    return None if end is None else end - epoch_s
