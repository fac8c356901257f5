"""What one translated event of text costs over one that is only tapped: instructions, counted under callgrind.

For each provider's dialect a stream of 1,000 events of text is fed to a tap as it arrives from a socket, one event a
`feed`: once to the tap that passes it to a client of the same dialect, once to what translates it for each other
client. Instructions an event are told; about 3,000 take a microsecond.

Run: python bench/micro/translated_event.py [--only CLIENT:PROVIDER ...] [--json] [--profile CLIENT:PROVIDER]
"""

import argparse
import cProfile
import gc
import json
import os
import pstats
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fastgw.dialects import event_stream, registry
from fastgw.dialects.base import Dialect
from fastgw.dialects.hub import Chat
from fastgw.dialects.openai import CHAT
from fastgw.gateway.translate import Translation

EVENTS: Final = 1_000
WARM_UP: Final = 200
TIMEOUT_S: Final = 300
MARK: Final = "getloadavg"
CLIENTS: Final = ("openai_chat", "anthropic_messages", "gemini", "openai_responses")
PROVIDERS: Final = (*CLIENTS, "bedrock_converse")
PASSING: Final[dict[str, Dialect]] = {
    "openai_chat": CHAT,
    "anthropic_messages": registry.ANTHROPIC,
    "gemini": registry.GEMINI,
    "openai_responses": registry.RESPONSES,
}
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.M)

_CHAT: Final = (
    b'data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44709d6fcb",'
    b'"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]}\n\n'
)
_GEMINI: Final = (
    b'data: {"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"},"index": 0}],'
    b'"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": %d,"totalTokenCount": %d,"promptTokensDetails": '
    b'[{"modality": "TEXT","tokenCount": 9}]},"modelVersion": "gemini-2.5-flash",'
    b'"responseId": "abT1aOqRHbOO2PgPnqvGuAs"}\r\n\r\n'
)
_RESPONSE: Final = (
    b'{"id":"resp_67c9fdcecf488190bdd9a0409de3a1ec07b8b0ad4e5eb654","object":"response","created_at":1741290958,'
    b'"status":"in_progress","model":"gpt-4.1-2025-04-14","output":[],"usage":null}'
)
_ITEM: Final = b'"item_id":"msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654","output_index":0,"content_index":0'


def _sse(name: bytes, rest: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b",%b}\n\n' % (name, name, rest)


def _aws(name: str, payload: bytes) -> bytes:
    return event_stream.event(name, payload)


def stream(provider: str, count: int) -> Iterator[bytes]:
    """The bytes that begin a stream of a provider, then so many of its events of text."""
    words = [b" lorem", b" ipsum", b" dolor", b" sit", b" amet,", b" consectetur"]
    texts = [words[at % len(words)] for at in range(count)]
    if provider == "openai_chat":
        yield _CHAT % b'{"role":"assistant","content":"","refusal":null}'
        yield from [_CHAT % (b'{"content":"%b"}' % text) for text in texts]
    elif provider == "anthropic_messages":
        message = b'"message":{"id":"msg_01","type":"message","role":"assistant","model":"claude","content":[],'
        usage = b'"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}'
        yield _sse(b"message_start", message + usage)
        yield _sse(b"content_block_start", b'"index":0,"content_block":{"type":"text","text":""}')
        for text in texts:
            yield _sse(b"content_block_delta", b'"index":0,"delta":{"type":"text_delta","text":"%b"}' % text)
    elif provider == "gemini":
        yield from [_GEMINI % (text, at, at + 9) for at, text in enumerate((b"So", *texts), start=1)]
    elif provider == "openai_responses":
        yield _sse(b"response.created", b'"sequence_number":0,"response":' + _RESPONSE)
        for at, text in enumerate(texts):
            piece = _ITEM + b',"delta":"%b","logprobs":[],"obfuscation":"Ks5QpC9v"' % text
            yield _sse(b"response.output_text.delta", b'"sequence_number":%d,' % (at + 4) + piece)
    else:
        yield _aws("messageStart", b'{"p":"abcdefghijkl","role":"assistant"}')
        for text in texts:
            delta = b'{"contentBlockIndex":0,"delta":{"text":"%b"},"p":"abcdefghijklmnopqrstuv"}' % text
            yield _aws("contentBlockDelta", delta)


def feeder(client: str, provider: str) -> Callable[[bytes], bytes]:
    """What is fed the bytes of such a stream: the tap of a pass-through, or a translation's."""
    if client == provider:
        return PASSING[client].tap(wants_usage=True, cost=lambda usage: None).feed
    chat = Chat("m", [], client, stream=True, stream_usage=True)
    upstream = registry.UPSTREAMS[provider]
    return Translation(registry.CODECS[client], upstream, chat, 1_700_000_000).tap("m", "call-1").feed


def warmed(client: str, provider: str) -> tuple[Callable[[bytes], bytes], list[bytes]]:
    """A tap that is in the midst of its stream, and the events that come next. Raises RuntimeError for a silent one."""
    feed = feeder(client, provider)
    parts = list(stream(provider, WARM_UP + EVENTS))
    said = sum(len(feed(part)) > 0 for part in parts[:-EVENTS])
    if said < WARM_UP:
        raise RuntimeError(f"{client} from {provider}: {WARM_UP} events were fed, {said} came out")
    return feed, parts[-EVENTS:]


def pairs(only: list[str]) -> list[tuple[str, str]]:
    """(client, provider), those that pass through first."""
    found = [(client, provider) for provider in PROVIDERS for client in CLIENTS]
    chosen = [tuple(one.split(":", 1)) for one in only]
    return sorted((pair for pair in found if not chosen or pair in chosen), key=lambda pair: pair[0] != pair[1])


def run(only: list[str]) -> None:
    """Feed each pair's events between two marks: callgrind closes an account when the marked function is entered."""
    prepared = [warmed(*pair) for pair in pairs(only)]
    gc.collect()
    gc.disable()
    for feed, events in prepared:
        os.getloadavg()
        for event in events:
            feed(event)
        os.getloadavg()


def count(only: list[str]) -> dict[str, float]:
    """Instructions an event, by `client:provider`. Raises RuntimeError where callgrind did not count."""
    with tempfile.TemporaryDirectory(prefix="fastgw-callgrind-") as scratch:
        out = Path(scratch) / "out"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}"]
        environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*tool, sys.executable, __file__, "--run", "--only", *only]
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=TIMEOUT_S)
        wanted = pairs(only)
        # What comes before each pair's first mark is an account of its own.
        texts = [out.with_name(f"out.{number}") for number in range(2, 2 * len(wanted) + 1, 2)]
        totals = [_TOTAL.search(text.read_text()) for text in texts if text.is_file()]
        if len(totals) != len(wanted) or None in totals:
            raise RuntimeError(f"callgrind wrote {len(totals)} parts, not {len(wanted)}")
        return {f"{c}:{p}": int(total[1]) / EVENTS for (c, p), total in zip(wanted, totals, strict=True) if total}


def table(counts: dict[str, float]) -> str:
    """Rows are providers, columns clients; what a translated event costs beyond a tapped one in brackets.

    A call is held against one that needs no translation, so the tap is the one that most clients have: OpenAI's.
    """
    tapped = counts.get("openai_chat:openai_chat")
    lines = ["provider".ljust(20) + "".join(client.rjust(24) for client in CLIENTS)]
    for provider in PROVIDERS:
        cells = []
        for client in CLIENTS:
            cost = counts.get(f"{client}:{provider}")
            over = "" if tapped is None or cost is None or client == provider else f" ({cost - tapped:+,.0f})"
            cells.append(("-" if cost is None else f"{cost:,.0f}{over}").rjust(24))
        lines.append(provider.ljust(20) + "".join(cells))
    return "\n".join(lines)


def profile(pair: str) -> None:
    """Where the time of one pair goes."""
    client, provider = pair.split(":", 1)
    feed, events = warmed(client, provider)
    watch = cProfile.Profile()
    watch.enable()
    for event in events:
        feed(event)
    watch.disable()
    pstats.Stats(watch).sort_stats("tottime").print_stats(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="CLIENT:PROVIDER")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--profile", metavar="CLIENT:PROVIDER")
    parser.add_argument("--run", action="store_true", help="feed the events, as callgrind is to see it")
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.only)
    elif arguments.profile:
        profile(arguments.profile)
    else:
        counts = count(arguments.only)
        print(json.dumps(counts, indent=1) if arguments.json else table(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
