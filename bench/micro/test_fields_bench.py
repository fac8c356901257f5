"""JSON field scan and splice, native against pure: ``pytest bench/micro --benchmark-only``."""

import json
from types import ModuleType

import pytest

from fastgw._core import fields_py

try:
    from fastgw._core import fields_c
except ImportError:
    fields_c = None

TWINS = [
    pytest.param(fields_py, id="pure"),
    pytest.param(fields_c, id="native", marks=pytest.mark.skipif(fields_c is None, reason="not compiled")),
]
FORBIDDEN = frozenset(
    b"api_base base_url api_key api_version api_type organization extra_headers extra_query extra_body "
    b"custom_llm_provider azure_ad_token".split()
)
PREFIXES = (b"aws_", b"vertex_")


def chat(texts: list[str]) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    facts = {"model": "gpt-4o-mini", "messages": messages, "stream": True, "max_tokens": 64, "temperature": 0.2}
    return json.dumps(facts, ensure_ascii=False).encode()


BODIES = {
    "chat, 1 KB": chat(["lorem ipsum dolor sit amet " * 34]),
    "talk of 100 messages, 100 KB": chat(["lorem ipsum dolor sit amet\n" * 36] * 100),
    "one image, 100 KB": chat(["QUJD" * 25_000]),
    "Chinese, 100 KB": chat(["你好世界" * 8_300]),
}


@pytest.fixture(params=TWINS)
def fields(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest, benchmark) -> bytes:
    benchmark.group = f"fields: {request.node.originalname.removeprefix('test_')}, {request.param}"
    return BODIES[request.param]


def test_scan(benchmark, fields, body):
    assert benchmark(fields.scan, body).has(b"model")


def test_replace(benchmark, fields, body):
    found = fields.scan(body)
    changes = {b"model": b'"gpt-4o"', b"stream_options": b'{"include_usage":true}'}
    assert b"include_usage" in benchmark(found.replace, changes)


def peek(fields: ModuleType, body: bytes) -> tuple[str | None, bool, int | None, bytes | None]:
    """All that the request path asks of a body before it is forwarded."""
    found = fields.scan(body)
    banned = found.forbidden(FORBIDDEN, PREFIXES)
    return found.text(b"model"), found.flag(b"stream"), found.number(b"max_tokens"), banned


def test_peek(benchmark, fields, body):
    assert benchmark(peek, fields, body) == ("gpt-4o-mini", True, 64, None)
