"""What one call over a warm connection costs the upstream client: CPU microseconds, server in a process of its own.

Run: python bench/micro/upstream.py [calls]. Bounded: one connection pool, loopback, `calls` requests per row.
"""

import asyncio
import multiprocessing
import statistics
import sys
import time

import uvloop

from fastgw.plan.plan import Origin, Timeouts
from fastgw.upstream.client import Client
from fastgw.upstream.connection import Connection
from fastgw.upstream.reply import Reply

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 330 + b'"}]}'
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-0123456789\r\n"
    b"accept-encoding: identity\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 600\r\nx-request-id: req_0123456789\r\nx-ratelimit-limit-requests: 100\r\n"
    b"x-ratelimit-remaining-requests: 99\r\nServer: x\r\nConnection: keep-alive\r\n\r\n" + b"y" * 600
)
PIECE = b"data: " + b"z" * 180 + b"\n\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = Timeouts()


class Answer(asyncio.Protocol):
    """Answers whatever comes, once the whole request is there."""

    def connection_made(self, transport):
        self.transport = transport
        self.left = 0

    def data_received(self, data):
        if not self.left:
            head = data.index(b"\r\n\r\n") + 4
            at = data.index(b"content-length: ") + 16
            self.left = head + int(data[at : data.index(b"\r\n", at)])
        self.left -= len(data)
        if self.left <= 0:
            self.left = 0
            self.transport.write(REPLY)


def serve(port):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answer, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await asyncio.sleep(120)

    uvloop.run(main())


async def over_sockets(port, calls, size, workers):
    loop = asyncio.get_running_loop()
    client = Client(loop)
    client.start()
    pool = client.pool(Origin("http", "127.0.0.1", port))
    body = BODY if size is None else b"b" * size
    head = HEAD % len(body)

    async def worker(count):
        for _ in range(count):
            await pool.send(head, body, LIMITS, whole=True)

    await asyncio.gather(*(worker(20) for _ in range(workers)))
    started = time.process_time()
    await asyncio.gather(*(worker(calls // workers) for _ in range(workers)))
    used = time.process_time() - started
    await client.close()
    return used / calls * 1e6


class Nothing:
    """A transport and a pool that do nothing."""

    def write(self, data):
        pass

    writelines = write

    def get_write_buffer_size(self):
        return 0

    def release(self, connection):
        pass


async def without_sockets(calls):
    """The client's own work: a call begun, answered in one segment, awaited; and one chunk of a stream, read."""
    loop = asyncio.get_running_loop()
    nothing = Nothing()
    connection = Connection(nothing, loop, time.monotonic, peer="x", max_head=32768, max_body=1 << 26)
    connection.connection_made(nothing)
    head = HEAD % len(BODY)
    started = time.process_time()
    for _ in range(calls):
        reply = Reply(LIMITS, True, False, 0.0)
        waiter = connection.begin(reply, head, BODY)
        connection.data_received(REPLY)
        await waiter
    whole = (time.process_time() - started) / calls * 1e6
    reply = Reply(LIMITS, False, False, 0.0)
    waiter = connection.begin(reply, head, BODY)
    connection.data_received(STREAM)
    await waiter
    reply._waiter = None
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
    started = time.process_time()
    for _ in range(calls):
        loop.call_soon(connection.data_received, piece)
        await reply.read()
    return whole, (time.process_time() - started) / calls * 1e6


def main(calls):
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    try:
        rows = [uvloop.run(without_sockets(calls)) for _ in range(5)]
        print(f"call, no socket            {statistics.median(row[0] for row in rows):8.2f} us")
        print(f"chunk read, no socket      {statistics.median(row[1] for row in rows):8.2f} us")
        for name, size, workers in (("0.4 KB, 1 at a time", None, 1), ("0.4 KB, 64 at a time", None, 64)):
            row = [uvloop.run(over_sockets(port.value, calls, size, workers)) for _ in range(5)]
            print(f"{name:26} {statistics.median(row):8.2f} us  ({min(row):.2f}-{max(row):.2f})")
        for size in (16_000, 64_000, 100_000, 1_000_000):
            few = max(200, min(calls, 100_000_000 // size) // 4)
            row = [uvloop.run(over_sockets(port.value, few, size, 1)) for _ in range(3)]
            print(f"{size / 1000:g} KB body, 1 at a time {statistics.median(row):10.2f} us")
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
