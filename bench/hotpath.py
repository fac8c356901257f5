"""The request path in one process, without sockets: what its own code costs.

Everything from the ASGI call to the record is real, the upstream client with its pool and parser included; only the
transports are not: the caller's hands over a request, the upstream's answers each one in the next turns of the loop.

Run under callgrind by `bench.instructions`, by itself it prints microseconds: python -m bench.hotpath [--slow N]
"""

import argparse
import asyncio
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import payloads, slow
from fastgw import _core as core
from fastgw._core import table as shared
from fastgw.gateway.asgi import Gateway
from fastgw.plan.compile import Sources, build
from fastgw.state.spool import Writer, spool_dir
from fastgw.state.table import open_table
from fastgw.telemetry.log import Log
from fastgw.telemetry.metrics import SeriesRegistry
from fastgw.upstream.client import Client

CONFIG: Final = Path(__file__).with_name("everything-on.yaml")
EVENTS: Final = 50
WARM_UP: Final = 300
SEGMENT: Final = 32 << 20
GC_THRESHOLDS: Final = (50_000, 20, 20)  # as the worker sets them

_HEAD: Final = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nServer: x\r\n"
_EVENT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x",'
    b'"choices":[{"index":0,"delta":{"content":" lorem"},"finish_reason":null}]}\n\n'
)
_USAGE: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x","choices":[],'
    b'"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}}\n\ndata: [DONE]\n\n'
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole() -> tuple[bytes, ...]:
    body = payloads.reply()
    return (_HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),)


def _stream() -> tuple[bytes, ...]:
    head = _HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return (head + _chunk(_EVENT), *[_chunk(_EVENT)] * (EVENTS - 2), _chunk(_USAGE) + b"0\r\n\r\n")


class Upstream:
    """A transport whose other end answers at once: each segment of the answer in a turn of the loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any, answer: list[tuple[bytes, ...]]) -> None:
        self._loop = loop
        self._protocol = protocol
        self._answer = answer

    def write(self, data: bytes) -> None:
        self._loop.call_soon(self._feed, self._answer[0], 0)

    def writelines(self, parts: Any) -> None:
        self.write(b"")

    def _feed(self, segments: tuple[bytes, ...], index: int) -> None:
        self._protocol.data_received(segments[index])
        if index + 1 < len(segments):
            self._loop.call_soon(self._feed, segments, index + 1)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class Caller:
    """granian's side of one call: what `receive` and `send` do, without a socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, body: bytes) -> None:
        self._loop = loop
        self._body = body
        self._read = False
        self.status = 0
        self.size = 0
        self._sent: asyncio.Future[None] = loop.create_future()
        self._sent.set_result(None)

    def receive(self) -> Awaitable[dict[str, Any]]:
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        if not self._read:
            self._read = True
            future.set_result({"type": "http.request", "body": self._body, "more_body": True})
        return future

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        # Taken at once, as granian does, whether or not what is given back is awaited.
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.size += len(message["body"])
        return self._sent


class HotPath:
    """A gateway by `everything-on.yaml` over transports that are not there."""

    def __init__(self, directory: Path, *, slowed: int = 0, config: Path = CONFIG) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._answer = [_whole()]
        spool_dir(str(directory)).mkdir(mode=0o700)
        self._table = open_table(str(directory), create=True)
        sources = Sources(data_dir=str(directory), environ={}, config=str(config))
        plan = build(sources, revision=1, table=self._table, registry=SeriesRegistry(8192))
        self._lane = self._table.claim_lane(time.monotonic_ns())
        self._writer = Writer(spool_dir(str(directory)), self._lane.index, SEGMENT)
        self._client = Client(loop)
        self._client.connector.open = self._connect  # type: ignore[method-assign]
        self._log = Log(level="info", fd=os.open(os.devnull, os.O_WRONLY))
        self._gateway = Gateway(
            plan, table=self._table, lane=self._lane, spool_writer=self._writer, client=self._client, log=self._log
        )
        if slowed:
            pipeline = self._gateway.pipeline
            pipeline._scan = slow.slowed(pipeline._scan, slowed)  # type: ignore[method-assign]

    async def _connect(self, origin: Any, make: Callable[[], Any]) -> None:
        protocol = make()
        protocol.connection_made(Upstream(self._loop, protocol, self._answer))
        protocol.closed = False

    async def calls(self, count: int, *, stream: bool) -> None:
        """So many calls, one after another. Raises RuntimeError when one is not answered as it should be."""
        self._answer[0] = _stream() if stream else _whole()
        body = payloads.chat(400, stream=True) if stream else payloads.chat(400)
        least = 400
        scope = {
            "type": "http",
            "method": "POST",
            "raw_path": payloads.PATH.encode(),
            "query_string": b"",
            "client": ("127.0.0.1", "50000"),
            "headers": [
                (b"host", b"127.0.0.1:4000"),
                (b"content-type", b"application/json"),
                (b"authorization", b"Bearer " + payloads.CALLER_KEY.encode()),
                (b"content-length", b"%d" % len(body)),
            ],
        }
        gateway, loop = self._gateway, self._loop
        for _ in range(count):
            caller = Caller(loop, body)
            await gateway(scope, caller)
            if caller.status != 200 or caller.size < least:
                raise RuntimeError(f"a call of the hot path ended with status {caller.status}, {caller.size} bytes")

    async def close(self) -> None:
        """Give back what is held."""
        await self._gateway.close()
        self._writer.close()
        self._lane.close()
        self._table.close()
        self._log.close()


def reference(rounds: int) -> int:
    """Work of the interpreter's own that no change of the gateway can move: what machines and builds are told by."""
    table: dict[bytes, int] = {}
    names = [b"name-%d" % index for index in range(64)]
    total = 0
    for _ in range(rounds):
        for name in names:
            table[name] = table.get(name, 0) + len(name)
        joined = b",".join(names)
        total += joined.find(b"name-63") + len(joined.split(b","))
    return total


async def _run(arguments: argparse.Namespace, directory: Path) -> None:
    path = HotPath(directory, slowed=arguments.slow, config=arguments.config)
    await path.calls(WARM_UP, stream=False)
    await path.calls(WARM_UP // 10, stream=True)
    reference(10)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    # Each mark is a function of the C library that nothing else calls; callgrind closes an account when it is entered.
    spent = []
    for work in _work(path, arguments):
        os.getloadavg()
        started = time.thread_time()
        await work()
        spent.append(time.thread_time() - started)
    os.getloadavg()
    for name, seconds, count in zip(("whole", "stream", "reference"), spent, counts(arguments), strict=True):
        print(f"{name:10} {seconds / count * 1e6:10.2f} us")
    await path.close()


def counts(arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Calls, streams and reference rounds of one run."""
    return arguments.calls, max(1, arguments.calls // 10), max(1, arguments.calls // 4)


def _work(path: HotPath, arguments: argparse.Namespace) -> tuple[Callable[[], Awaitable[None]], ...]:
    calls, streams, rounds = counts(arguments)

    async def refer() -> None:
        reference(rounds)

    return (lambda: path.calls(calls, stream=False), lambda: path.calls(streams, stream=True), refer)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.hotpath", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--slow", type=int, default=0, metavar="US", help="burn so many microseconds in every call")
    arguments = parser.parse_args(argv)
    print(f"native {core.NATIVE}, table {shared.__name__}")
    directory = Path(tempfile.mkdtemp(prefix="fastgw-hotpath-"))
    try:
        uvloop.run(_run(arguments, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
