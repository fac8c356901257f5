"""The cutter of arrays finds every element, however the array is cut into pieces."""

import json

import pytest

from tests.support.arrays import ArrayCutter

RAW = b'[{"a":"]}\\"["},\r\n{"b":[1,{"c":2}]}\n,{}]'


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_an_array_is_cut(size):
    cutter = ArrayCutter()
    found = [json.loads(one) for at in range(0, len(RAW), size) for one in cutter.feed(RAW[at : at + size])]
    assert cutter.complete
    assert found == json.loads(RAW)


@pytest.mark.parametrize("raw", [b"{}", b"[]]", b"[{}] [", b"[" * 600])
def test_what_is_no_array_is_refused(raw):
    with pytest.raises(ValueError):
        ArrayCutter().feed(raw)


def test_half_an_array_is_not_complete():
    cutter = ArrayCutter()
    assert cutter.feed(b'[{"a":1},{"b":') == [b'{"a":1}']
    assert not cutter.complete
