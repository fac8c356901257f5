"""Both twins of the look at an event stream."""

import importlib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw import _core
from fastgw._core import sse_py

TWINS = ["sse_py"] + (["sse_c"] if _core.NATIVE["sse"] else [])
CHUNK = b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":null}],"usage":null}\n\n'
PIECES = [
    b'"usage"', b'"error"', b'"finish_reason"', b"[DONE]", b"[DON", b":", b" ", b"{", b'"', b"\n", b"\r", b"data: ",
    b"\\", b"usage", b'"us', b"\x00", b"null", b"\xff",
]  # fmt: skip


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"fastgw._core.{request.param}")


@pytest.mark.parametrize(
    ("block", "flags", "events"),
    [
        (b"", 0, 0),
        (CHUNK, sse_py.WHOLE, 1),
        (CHUNK * 3, sse_py.WHOLE, 3),
        (CHUNK[:-1], 0, 0),
        (b"\n\n\n\n", 0, 2),
        (b"\n\n\n", 0, 1),
        (b"\n\n", sse_py.WHOLE, 1),
        (CHUNK.replace(b"\n", b"\r\n"), sse_py.CR, 0),
        (b'data: {"usage":{"a":1}}\n\n', sse_py.WHOLE | sse_py.USAGE, 1),
        (b'data: {"usage" : \t{', sse_py.USAGE, 0),
        (rb'data: {"x":"say \"usage\":{"}', 0, 0),
        (b"data: [DONE]\n\n", sse_py.WHOLE | sse_py.DONE, 1),
        (b"data: [[[DONE]", sse_py.DONE, 0),
        (b'data: {"error":null}', sse_py.ERROR, 0),
        (b'{"finish_reason":"stop"', sse_py.FINISH, 0),
        (b'{"finish_reason": "', sse_py.FINISH, 0),
        (b'{"finish_reason":null', 0, 0),
        (b'"finish_reason"', 0, 0),
        (b'"usage":', 0, 0),
        (b'"error', 0, 0),
    ],
)
def test_look(twin: ModuleType, block: bytes, flags: int, events: int):
    assert twin.look(block) == flags | events << sse_py.EVENTS


def test_the_flags_have_the_same_values_in_both():
    for name in ("CR", "WHOLE", "USAGE", "DONE", "ERROR", "FINISH", "EVENTS"):
        assert getattr(_core.sse, name) == getattr(sse_py, name)


def test_only_bytes_are_looked_at():
    if not _core.NATIVE["sse"]:
        pytest.skip("the twin takes what bytes methods take")
    native = importlib.import_module("fastgw._core.sse_c")
    for wrong in (None, "data", bytearray(b"x"), 1):
        with pytest.raises(TypeError):
            native.look(wrong)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join))
def test_the_twins_agree(block: bytes):
    assert _core.sse.look(block) == sse_py.look(block)


@given(st.integers(0, len(CHUNK)))
def test_a_cut_block_is_not_whole(cut: int):
    assert bool(_core.sse.look(CHUNK[:cut]) & sse_py.WHOLE) == (cut == len(CHUNK))
