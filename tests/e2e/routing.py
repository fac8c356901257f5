"""A node before three upstreams whose behaviour a test changes as it goes."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from fastgw.state import spool
from tests.faults.tongues import CHAT, Tongue, echo, tongue_of
from tests.support.gateway import Node, node, reserved_port, unique
from tests.support.rawclient import RawReply, call
from tests.support.scripted import Expect, RawRequest, ScriptedUpstream, Send, Sleep, Step, Then, reply

KEY = "fgw-routing-0123456789abcdef"
OTHER = "fgw-routing-other-0123456789"
JSON = [("content-type", "application/json")]
PLACES = ("a", "b", "c")
BASES = {"openai_compatible": "/v1", "openai": "/v1", "anthropic": "", "gemini": ""}
"""The kinds of provider there are at `a` and `b`, as `a_KIND`; the bare names are OpenAI-compatible."""

Make = Callable[[RawRequest], bytes]


def error(code: str, message: str = "no") -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _google(code: int, status: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": []}}


ERRORS = [
    ("openai", 503, error("server_error"), "outage"),
    ("openai", 429, error("rate_limit_exceeded", "Rate limit reached. Please try again in 10ms."), "rate"),
    ("openai", 400, error("context_length_exceeded", "This model's maximum context length is 8192 tokens."), "context"),
    ("openai", 400, error("content_filter", "The response was filtered"), "policy"),
    ("openai", 400, error("unsupported_parameter"), "request"),
    ("anthropic", 529, _anthropic("overloaded_error", "Overloaded"), "outage"),
    ("anthropic", 429, _anthropic("rate_limit_error", "This request would exceed your rate limit"), "rate"),
    ("anthropic", 400, _anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "context"),
    ("anthropic", 400, _anthropic("invalid_request_error", "Output blocked by content filtering policy"), "policy"),
    ("gemini", 503, _google(503, "UNAVAILABLE", "The model is overloaded."), "outage"),
    ("gemini", 429, _google(429, "RESOURCE_EXHAUSTED", "quota"), "rate"),
    ("gemini", 400, _google(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens "
     "allowed (1048576)."), "context"),
]  # fmt: skip
"""(kind of provider, status, body, class of failure) as vendors have them."""


def answers_as(status: int) -> Make:
    """An upstream that fails with this status in its own dialect."""
    return lambda request: reply(status, JSON, tongue_of(request).refusal(status, "no"))


class _Act:
    """What a place does now; a request in flight keeps what it met."""

    def __init__(self) -> None:
        self.make: Make = echo
        self.after = 0.0

    def script(self, _: int) -> Iterator[Step]:
        """What it does on a connection, for as long as that lasts."""
        return itertools.cycle((Expect(), Then(lambda request: (Sleep(self.after), Send(self.make(request))))))


class Stage:
    """A node and what stands behind it."""

    def __init__(self, started: Node, upstreams: dict[str, ScriptedUpstream], acts: dict[str, _Act]) -> None:
        self.node, self._upstreams, self._acts = started, upstreams, acts

    def behave(self, place: str, make: Make, after: float = 0.0) -> None:
        """From now on this upstream answers so, so many seconds after it was asked."""
        self._acts[place].make, self._acts[place].after = make, after

    async def stop(self, place: str) -> None:
        """Nothing listens there any more."""
        await self._upstreams[place].__aexit__()

    def requests(self, place: str) -> list[RawRequest]:
        """What it was asked."""
        return self._upstreams[place].requests

    def counts(self) -> Counter[str]:
        """How often each was asked."""
        return +Counter({place: len(one.requests) for place, one in self._upstreams.items()})

    async def ask(self, model: str, *, stream: bool = False, label: str = "", tongue: Tongue = CHAT, key: str = "",
                  timeout: float = 8.0, **more: Any) -> RawReply:  # fmt: skip
        """One call on a connection of its own."""
        label, secret = label or unique(), OTHER if key == "other" else KEY
        if more:
            return await call(self.node.port, chat(model, secret, label, **more), timeout)
        return await call(self.node.port, tongue.ask(model, label, secret, stream=stream), timeout)

    async def gather(self, count: int, model: str) -> list[RawReply]:
        """So many calls at once."""
        return list(await asyncio.gather(*(self.ask(model) for _ in range(count))))

    async def many(self, count: int, model: str, expect: int | None = 200) -> None:
        """So many calls, a few at once; each must have this status."""
        for start in range(0, count, 20):
            for got in await self.gather(min(20, count - start), model):
                assert expect is None or got.status == expect, got.raw[:500]

    async def row(self, label: str) -> dict[str, Any]:
        """The record of a call, once it is there."""
        await self.until(lambda: self.node.records(label))
        (row,) = self.node.records(label)
        return row

    async def until(self, check: Callable[[], Any], seconds: float = 6.0) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.01)

    async def until_served(self, model: str, seconds: float) -> None:
        """Wait until a call is served again."""
        deadline = time.monotonic() + seconds
        while (await self.ask(model)).status != 200:
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.05)

    def served_by_both(self) -> bool:
        """Whether two workers have written records: each has spool files of its own."""
        return len({name.partition("-")[0] for name, _, _ in spool.read(spool.spool_dir(self.node.data_dir))}) == 2


def chat(model: str, key: str = KEY, label: str = "", **more: Any) -> bytes:
    """A call with these fields, in OpenAI's dialect."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    data = json.dumps(body).encode()
    head = f"authorization: Bearer {key}\r\nx-request-id: {label or unique()}\r\ncontent-length: {len(data)}\r\n"
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n{head}\r\n".encode() + data
    )


@asynccontextmanager
async def stage(
    directory: Path,
    models: Mapping[str, str],
    *,
    providers: Mapping[str, str] | None = None,
    key: str = "",
    workers: int = 1,
) -> AsyncIterator[Stage]:
    """A node with these models (in the config's words) before three upstreams that are well.

    `providers` says more of some providers, `key` of the key that is used unless a call says `other`.
    """
    async with AsyncExitStack() as stack:
        ports = {place: stack.enter_context(reserved_port()) for place in PLACES}
        config = _config(ports, models, providers or {}, key)
        acts = {place: _Act() for place in PLACES}
        upstreams = {}
        for place, port in ports.items():
            upstreams[place] = ScriptedUpstream(cast(Any, acts[place].script), port=port)
            await stack.enter_async_context(upstreams[place])
        started = stack.enter_context(node(directory, config, workers=workers))
        yield Stage(started, upstreams, acts)


def _config(ports: Mapping[str, int], models: Mapping[str, str], more: Mapping[str, str], key: str) -> str:
    lines = ["providers:"]
    for place, port in ports.items():
        kinds = {place: "openai_compatible"} | {f"{place}_{kind}": kind for kind in BASES}
        for name, kind in kinds.items():
            said = more.get(name, "api_key: sk-routing-credential")
            lines.append(f'  {name}: {{kind: {kind}, base_url: "http://127.0.0.1:{port}{BASES[kind]}", {said}}}')
    lines += ["models:", *(f"  {name}: {{{text}}}" for name, text in models.items())]
    limited = f", {key}" if key else ""
    lines += ["keys:", f"  - {{name: main, secret: {KEY}{limited}}}", f"  - {{name: other, secret: {OTHER}}}"]
    return "\n".join([*lines, "records: {segment: 1MiB}", ""])
