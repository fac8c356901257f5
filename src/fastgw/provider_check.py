"""Whether a configured provider can be used: one tiny call for each operation that it has a model for.

The calls are made as a worker makes them: the same plan, client, credentials and quirks. They cost what a dozen tokens
cost. Where no model is known the provider's list of models is asked for, which costs nothing.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fastgw._core import table as shared
from fastgw.dialects import hub
from fastgw.dialects.embeddings.nouns import Embed
from fastgw.dialects.openai import COMPLETIONS
from fastgw.dialects.registry import OPERATIONS
from fastgw.doctor import Finding
from fastgw.errors import UpstreamError
from fastgw.plan import catalogue
from fastgw.plan.compile import build
from fastgw.plan.plan import Plan, Target, Timeouts, Upstream
from fastgw.plan.sources import Sources
from fastgw.providers.base import Provider
from fastgw.providers.quirks import phrases
from fastgw.telemetry.metrics import Handles, SeriesRegistry
from fastgw.upstream.client import Client
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Way

TOKENS = 16
"""What an answer may take: some refuse to be asked for fewer."""
MODES = {"chat": "chat", "embedding": "embeddings", "completion": "completions"}
"""Operations by the catalogue's word for what a model does."""
LISTS = (
    ("openai_chat", "/chat/completions", "/models"),
    ("anthropic_messages", "/v1/messages", "/v1/models"),
    ("gemini", "/models/{model}:generateContent", "/models"),
)
"""Where a vendor lists its models, by how the path of its dialect ends."""
MENDS = {
    "auth": "check the provider's `api_key` or `auth`: which account, which region, not expired",
    "forbidden": "the key is known but may not do this: look at its rights and at the account's models and regions",
    "billing": "the account has no credit left, or no way to pay",
    "not_found": "check the model's name, and `base_url`: it may lack a path such as /v1, or have one too many",
    "rate_limit": "the key works; wait, or ask the vendor for more",
    "bad_request": "if the model is right, this server differs from its dialect: see `quirks` in docs/config.md",
    "overloaded": "the vendor's own trouble; try again later",
    "server": "the vendor's own trouble; try again later",
    "timeout": "the vendor's own trouble; try again later",
}


class Asked(NamedTuple):
    """One call that can be made: what it is called, and its method, path and body."""

    operation: str
    way: Way
    method: str
    path: str
    head: bytes
    body: bytes
    read: Callable[[bytes], str]
    """What a reply of status 200 says. Raises ValueError for one that cannot be read."""
    explain: Callable[[int, dict[bytes, bytes], bytes], hub.Problem]


class NothingToAsk(Exception):
    """There is no such provider, or nothing is known to ask it; the message says what to do."""


def plan_of(config: str | None) -> Plan:
    """The plan of a config file, or of the environment where there is none. Raises ConfigErrors."""
    with tempfile.TemporaryDirectory(prefix="fastgw-check-") as scratch:
        table = shared.Table.open(str(Path(scratch) / "table"), create=True)
        sources = Sources(data_dir=scratch, environ=dict(os.environ), config=config)
        try:
            return build(sources, revision=0, table=table, registry=SeriesRegistry(table.counters))
        finally:
            table.close()


async def check(plan: Plan, name: str, model: str, seconds: float) -> list[Finding]:
    """Ask the provider `name` for each operation; `model` "" takes those of the plan.

    Raises NothingToAsk.
    """
    upstream = plan.upstreams.get(name)
    if upstream is None:
        known = ", ".join(plan.upstreams) or "none is configured"
        raise NothingToAsk(f"there is no provider {name!r}; known: {known}")
    client = Client(asyncio.get_running_loop())
    client.start()
    try:
        asked = list(_calls(plan, client, upstream, model))
        if not asked:
            raise NothingToAsk(f"no model of {name!r} is configured; name one with --model")
        return [await _ask(one, upstream, seconds) for one in asked]
    finally:
        await client.close()


def described(one: Provider) -> Iterator[str]:
    """A kind of provider in lines: where it is, how it differs, which models of it are known."""
    yield f"{one.kind}: {one.title or one.kind}"
    yield f"docs: {one.docs or '-'}"
    yield f"address: {one.base_url or 'yours (base_url)'}"
    yield f"dialects: {', '.join(one.speaks)}"
    yield f"tested: {'yes' if one.tested else 'no'}"
    if one.note:
        yield f"note: {one.note}"
    yield from phrases(one.quirks)
    yield from (f"of {pattern}: {'; '.join(phrases(quirks))}" for pattern, quirks in one.models.items())
    if one.fix_request is not None:
        yield f"fix: {(one.fix_request.__doc__ or '').strip().splitlines()[0]}"
    for entry in catalogue.list_models(one.kind):
        yield f"  {entry.model}\t{entry.mode}\tcontext {entry.context or '-'}\toutput {entry.max_output or '-'}"


# --- what is asked


def _way(plan: Plan, client: Client, upstream: Upstream, model: str) -> Way:
    """The way to one model of the provider; "" is none in particular."""
    signer = None if upstream.credential is None else client.vault.source(upstream.credential, upstream.name)
    target = Target(f"{upstream.name}/{model}", upstream.name, model)
    handles = Handles.find(plan.series, "", upstream.name, target.id)
    return Way("", target, upstream, client.pool(upstream.origin), handles, signer=signer)


def _calls(plan: Plan, client: Client, upstream: Upstream, model: str) -> Iterator[Asked]:
    """One call for each operation that there is a model for, else the list of models."""
    targets = [target for one in plan.models.values() for target in one.targets if target.upstream == upstream.name]
    done: set[str] = set()
    for name in [model] if model else [target.model for target in targets if target.model]:
        way, operation = _way(plan, client, upstream, name), _operation(upstream.kind, name)
        offered = operation in way.translated or (operation == "completions" and COMPLETIONS.name in way.heads)
        if offered and operation not in done:
            done.add(operation)
            yield _completions(way, name) if operation == "completions" else _call(operation, way, name)
    if not done:
        yield from _listing(_way(plan, client, upstream, ""), upstream)


def _operation(kind: str, model: str) -> str:
    """What a model is for, by the catalogue; one that is not in it is taken to chat unless its name says otherwise."""
    found = catalogue.shipped().find(kind, model)
    if found is not None:
        return MODES.get(found.entry.mode, "")
    return "embeddings" if "embed" in model.lower() else "chat"


def _call(operation: str, way: Way, model: str) -> Asked:
    spoken = way.translated[operation]
    codec = OPERATIONS[operation].providers[spoken]
    traits = way.traits(model)
    target = hub.Target(model, way.max_output, frozenset("*"), mid_system=traits.mid_system, features=traits.features)
    noun = Embed(model, ["ok"]) if operation == "embeddings" else _hello(model)
    body = codec.write_request(noun, target)
    if traits.adjust is not None:
        body, _ = traits.adjust.apply(body)
    head = way.head(spoken, model, b"", len(body))
    path = head.split(b" ", 2)[1].decode("latin-1")

    def read(raw: bytes) -> str:
        return _told(codec.read_reply(raw))

    return Asked(f"{operation} with {model}", way, "POST", path, head, body, read, codec.read_error)


def _completions(way: Way, model: str) -> Asked:
    """The one operation that is never translated, and so has no codec."""
    body = msgspec.json.encode({"model": model, "prompt": "Say OK.", "max_tokens": TOKENS})
    head = way.head(COMPLETIONS.name, model, b"", len(body))
    path = head.split(b" ", 2)[1].decode("latin-1")

    def read(raw: bytes) -> str:
        used = COMPLETIONS.usage(raw)
        if used is None and not isinstance(msgspec.json.decode(raw), dict):
            raise ValueError("no completion")
        return "it works" if used is None else f"it works: {used.input} tokens in, {used.output} out"

    explain = OPERATIONS["chat"].providers["openai_chat"].read_error
    return Asked(f"completions with {model}", way, "POST", path, head, body, read, explain)


def _hello(model: str) -> hub.Chat:
    return hub.Chat(model, [hub.Turn("user", [hub.Text("Say OK.")])], "", max_tokens=TOKENS)


def _told(reply: Any) -> str:
    used = reply.usage
    return "it works" if used is None else f"it works: {used.input} tokens in, {used.output} out"


def _listing(way: Way, upstream: Upstream) -> Iterator[Asked]:
    for dialect, end, replacement in LISTS:
        path = upstream.paths.get(dialect, "").partition("?")[0]
        if path.endswith(end) and "{model}" not in path.removesuffix(end):
            path = path.removesuffix(end) + replacement
            head = way.opaque_head("GET", path, b"", b"", -1)
            explain = OPERATIONS["chat"].providers[dialect].read_error
            yield Asked("list of models", way, "GET", path, head, b"", _listed, explain)
            return


def _listed(raw: bytes) -> str:
    if not raw.lstrip().startswith((b"{", b"[")):
        raise ValueError("the answer is no JSON")
    return "it answers; name a model with --model to have one asked"


# --- what comes of it


async def _ask(one: Asked, upstream: Upstream, seconds: float) -> Finding:
    origin = upstream.origin
    subject = f"{one.operation} ({one.method} {origin.scheme}://{origin.host}:{origin.port}{one.path})"
    limits = Timeouts(min(seconds, 5.0), seconds, seconds, seconds)
    started = time.monotonic()
    try:
        head = one.head
        if one.way.signer is not None:
            head = await one.way.signed(head, one.body, limits.connect)
        reply = await one.way.pool.send(head, one.body, limits, whole=True)
    except UpstreamError as error:
        return Finding("bad", subject, error.message, _mend(error))
    return _judge(one, subject, reply, (time.monotonic() - started) * 1000)


def _judge(one: Asked, subject: str, reply: Reply, milliseconds: float) -> Finding:
    took = f"status {reply.status} in {milliseconds:.0f} ms ({reply.connect_ms:.0f} ms of them to connect)"
    body = bytes(reply.body)
    if one.way.secret:
        body = body.replace(one.way.secret, b"***")
    if 200 <= reply.status < 300:
        try:
            return Finding("good", subject, f"{took}: {one.read(body)}")
        except (ValueError, RecursionError):
            mend = "check `kind` and `base_url`: another kind of server answers there"
            return Finding("bad", subject, f"{took}, but the answer cannot be read", mend)
    if 300 <= reply.status < 400:
        return Finding("bad", subject, f"{took}: a redirect, which is never followed", "give the address it leads to")
    problem = one.explain(reply.status, dict(reply.headers), body)
    return Finding("bad", subject, f"{took}: {_printable(problem.message)}", MENDS.get(problem.cause, ""))


def _printable(text: str) -> str:
    """At most a line of it: what a server says goes to a terminal."""
    return "".join(char if char.isprintable() else " " for char in text[:500])


def _mend(error: UpstreamError) -> str:
    """By what the client says of a connection that could not be had or did not last."""
    message = error.message
    if error.reason == "auth":
        return MENDS["auth"]
    if "cannot resolve" in message:
        return "check the host name in `base_url`, and this machine's name servers"
    if "TLS" in message:
        return "check `ca_file` and the clock, whether `base_url` should say http, and who answers behind a proxy"
    if error.reason == "connect":
        return "check `base_url`, the firewall, and the proxy if there is one"
    if error.reason == "timeout":
        return "it is reached but does not answer in time: try --timeout, or check who listens there"
    return "what answers there does not speak HTTP as it should: check the port and the scheme of `base_url`"
