"""What is fuzzed: a name -> a callable on bytes, the errors that may leave it, the words of its format, its seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastgw._core.fields_py import FieldError
from fastgw.dialects import registry
from fastgw.errors import GatewayError
from fastgw.plan.decode import ConfigErrors
from fastgw.state.segment import SpoolError
from fastgw.telemetry.record import RecordError
from tests.fuzz import codecs, native, others, wire

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
CORPUS, FOUND = HERE / "corpus", HERE / "found"
SCRATCH = HERE.parent.parent / "build" / "fuzz"


class Target(NamedTuple):
    """`seeds` are patterns of fixtures that serve as inputs beside the files in `corpus/` and `found/`."""

    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = ()
    tokens: tuple[bytes, ...] = ()
    seeds: tuple[str, ...] = ()
    native: bool = False


JSON = (b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e9", rb"\u0065", rb"\ud800", b'"model"', b'"type"')
SSE = (
    b"data: ",
    b"data:",
    b"event: ",
    b"\n\n",
    b"\r\n\r\n",
    b"\r\r",
    b": x\n\n",
    b"data: [DONE]\n\n",
    b"\xef\xbb\xbf",
    b'"error"',
)
HTTP = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
    b"Content-Length: 5\r\n", b"content-length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"connection: close\r\n",
    b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b";ext=1", b"ffffffff\r\n", b"connection: upgrade\r\nupgrade: x\r\n",
)  # fmt: skip
HEADERS = (
    *(b"\n%b: " % name for name in sorted(native.headers_py._TAKE)),
    b"chunked", b"Bearer ", b"\nConnection: x-a", b"\nx_api_key:k", b"\nX-A: 1", b"\nx-stainless-os: L", b"\nVia: x",
    b"\nset-cookie: a", b"\ncontent-type: a", b"18446744073709551616", b"[::1]:80", b"\\r\\n", b"host: h",
)  # fmt: skip
PATHS = (
    b"/v1/", b"/openai", b"/genai", b"/v1beta/models/", b"%2F", b"/../", b"//", b":generateContent", b"?alt=sse", b"&",
    b";", b"limit=5", b"pageToken=a", b"after_id=b", b"/responses/resp_1", b"/cancel", b"?key=1",
)  # fmt: skip
FORM = (
    b"--b",
    b"--b--",
    b"\r\n",
    b"\r\n\r\n",
    b'; name="model"',
    b"; filename=x",
    b"Content-Disposition: form-data",
    b"boundary=b",
)
YAML = (
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!bool x",
    b"!!python/name:os ",
    b"? ",
    b"- ",
    b": ",
    b"${KEY}",
    b"${file:x}",
    b"|\n",
    b"1e9",
    b"\t",
)
AWS = (
    b"\x1f",
    b"\x0b:event-type\x07\x00\x01a",
    b"\x0d:message-type\x07\x00\x05event",
    b"\x00",
    b"\x01",
    b"\x02",
    b"\x09",
)


def _of_codecs() -> dict[str, Target]:
    made: dict[str, Target] = {}
    for operation, one in registry.OPERATIONS.items():
        for name in one.clients:
            made[f"request.{name}"] = Target(
                codecs.request(operation, name), (FieldError, GatewayError), JSON, (f"{name}/*.client.json",)
            )
        for name in one.providers:
            made[f"reply.{name}"] = Target(codecs.reply(operation, name), (), JSON, (f"{name}/*.reply.json",))
            made[f"error.{name}"] = Target(codecs.error(operation, name), (), JSON, (f"{name}/*.error.json",))
    for name in registry.UPSTREAMS:
        made[f"stream.{name}"] = Target(codecs.stream(name), (), SSE, (f"{name}/*.sse", f"{name}/*.frames"))
    for name, run in codecs.TAPS.items():
        made[f"tap.{name}"] = Target(run, (ValueError,), SSE, (f"{name}/*.sse",))
    return made


TARGETS: dict[str, Target] = {
    "headers": Target(native.headers, (), HEADERS, native=True),
    "fields": Target(native.fields, (), JSON, ("agents/*.json", "*/*.client.json"), native=True),
    "splice": Target(native.splice, (), JSON, native=True),
    "look": Target(native.look, (), SSE, ("openai_chat/*.sse",), native=True),
    "replies": Target(wire.whole, (), HTTP, native=True),
    "connection": Target(wire.connection, (), HTTP),
    "tunnel": Target(wire.tunnel, (OSError,), HTTP),
    # A scheme may raise what it likes (`auth.base.Fetch`); this is what a number of 400 digits does.
    "grant": Target(wire.token, (*wire.TOKEN_ERRORS, OverflowError), JSON),
    "aws": Target(wire.aws, (), AWS, ("bedrock_converse/*.frames",)),
    "events": Target(wire.events, (), SSE, ("anthropic_messages/*.sse", "gemini/*.sse")),
    "path": Target(others.path, (GatewayError,), PATHS),
    "form": Target(others.multipart, (FieldError,), FORM),
    "wishes": Target(others.wishes, (GatewayError,), JSON),
    "config": Target(others.config, (ConfigErrors,), YAML),
    "token": Target(others.token, (), (b"resp_", b"=", b"_", b"-")),
    "sealed": Target(others.sealed_reply, (), JSON, ("openai_responses/*.reply.json",)),
    "spool": Target(others.spool, (SpoolError,), AWS),
    "record": Target(
        others.stored, (RecordError, RecursionError), (b"\x92", b"\xdc", b"\xc0", b"\x01", b"\xcb", b"\xd9")
    ),
    "array": Target(codecs.array, (ValueError,), SSE, ("gemini/*.sse",)),
    **_of_codecs(),
}


def files(name: str) -> list[Path]:
    """The inputs of a target that are files: its corpus, what was found with it, and fixtures, in a fixed order."""
    own = [path for folder in (CORPUS, FOUND) for path in (folder / name).glob("*")]
    return sorted(own) + sorted(path for pattern in TARGETS[name].seeds for path in FIXTURES.glob(pattern))
