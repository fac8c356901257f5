"""Calls, targets and replies as the gateway's parts see them, without a worker around them."""

from types import SimpleNamespace

from fastgw._core import headers
from fastgw.call import Call
from fastgw.plan.plan import Key, Model, Options, Plan, Price, Retry, Target, Timeouts
from fastgw.providers.quirks import Traits
from fastgw.telemetry.metrics import Handles, SeriesRegistry
from fastgw.upstream.health import Latency
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Route, facts

REGISTRY = SeriesRegistry(4096)
for _name in ("a", "b", "c"):
    REGISTRY.target("fast", _name, f"{_name}/m")
SERIES = dict(REGISTRY.series)


class Exchange:
    """An exchange that writes down what was done to it."""

    def __init__(self, path=b"/v1/chat/completions", lines=()):
        self.method, self.path, self.query, self.peer = "POST", path, b"", "127.0.0.1"
        self.headers = [(b"host", b"h"), *lines]
        self.started = False
        self.watching, self.unwatched = None, 0

    def watch(self, gone):
        self.watching = gone

    def unwatch(self):
        self.unwatched += 1


def live_of(options=None, revision=3, expose_facts=True):
    plan = Plan(revision, b"", {}, {}, {}, (), (), options or Options(), SERIES)
    return SimpleNamespace(
        plan=plan,
        options=plan.options,
        revision=revision,
        expose_facts=expose_facts,
        revision_header=(b"x-fastgw-revision", b"%d" % revision),
        limiter=Limiter(),
    )


class Limiter:
    """Refuses nothing but what it is told to: `full` are targets whose own limits are used up."""

    def __init__(self):
        self.full, self.attempted, self.retreats, self.gone = {}, [], 0, 0

    def attempt(self, call, way):
        self.attempted.append(way.name)
        return self.full.get(way.name)

    def retreat(self, call):
        self.retreats += 1

    def sent(self, call):
        self.gone += 1


def call_of(live=None, started=0.0, path=b"/v1/chat/completions", **fields):
    call = Call("req_1", started, int(started * 1e9), live or live_of(), Exchange(path))
    call.model_name = "fast"
    for name, value in fields.items():
        setattr(call, name, value)
    return call


class Pool:
    """Gives the answers it was told to, one a request, and keeps what it was sent."""

    def __init__(self, *answers):
        self.answers, self.sent = list(answers), []

    async def send(self, head, body, timeouts, *, whole):
        self.sent.append((head, body, whole))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Way:
    """A target as the request path sees it."""

    def __init__(self, provider, *answers, priority=1, model="m", secret=b"", price=None, dialects=("openai_chat",)):
        self.provider, self.model, self.name = provider, model, f"{provider}/{model}"
        self.weight, self.priority, self.price, self.secret = 1, priority, price, secret
        self.pool = Pool(*answers)
        self.signer, self.health, self.alone, self.kind, self.latency = None, None, True, provider, Latency()
        self.allow = headers.Allow((b"accept",))
        self.heads = dict.fromkeys(dialects, b"")
        self.translated, self.drop, self.max_output, self.asks_usage = {}, frozenset(), 4096, True
        self.facts = facts("fast", provider, self.name)
        self.handles = Handles.find(SERIES, "fast", provider, self.name)

    def price_for(self, model):
        return self.price

    def traits(self, model):
        return Traits(frozenset() if self.asks_usage else frozenset({"no_stream_options"}), None)

    def head(self, dialect, model, forwarded, length, *, stream=False):
        return b"%b %b %b %d" % (dialect.encode(), model.encode(), forwarded, length)


def route_of(*ways, retry=None):
    targets = tuple(Target(way.name, way.provider, way.model) for way in ways)
    model = Model("fast", targets, retry=retry or Retry())
    return Route(model, ways)


def reply_of(status=200, body=b"{}", lines=(), stream=False):
    reply = Reply(Timeouts(), not stream, False, 0.0)
    reply.status, reply.complete = status, True
    reply.headers = [(b"content-type", b"application/json"), *lines]
    if stream:
        reply._chunks = [body] if body else []
    else:
        reply.body = body
    return reply


def key_of(name="alice"):
    return Key(name, b"d" * 32)


PRICE = Price(input=150_000, output=600_000, cached=75_000, cache_write=150_000, version="config")
