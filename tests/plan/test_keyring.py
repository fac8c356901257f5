"""Keys in a file are the same keys, and no others are found."""

import hashlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.plan import keyring
from fastgw.plan.keyring import HeldKeys, MappedKeys, Remembered, pack
from fastgw.plan.plan import Key, Rule

RULE = Rule("key", "k", "rate", "requests", "min", 10, 1, 3, 5, 7)


def digest(n: int) -> bytes:
    return hashlib.blake2b(str(n).encode(), digest_size=32).digest()


def key(n: int, digest_bytes: bytes | None = None) -> Key:
    return Key(f"key-{n}", digest_bytes or digest(n), frozenset({"a"}) if n % 2 else None, ("x/",), (RULE,) * (n % 3))


def mapped(keys: list[Key], before: int = 0) -> MappedKeys:
    head, part = pack(keys)
    with tempfile.TemporaryFile() as file:
        file.write(b"\0" * before + part)
        file.flush()
        return MappedKeys(file.fileno(), before, head)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
@pytest.mark.parametrize("before", [0, 333])
def test_every_key_is_found_and_nothing_else(count, before):
    keys = [key(n) for n in range(count)]
    found = mapped(keys, before)
    assert len(found) == count
    assert [found.find(one.digest) for one in keys] == keys
    assert [found.find(one.digest) for one in keys] == keys, "also when remembered"
    assert all(found.find(digest(n)) is None for n in range(count, count + 1000))
    assert sorted(found, key=lambda one: one.name) == sorted(keys, key=lambda one: one.name)


def test_digests_that_begin_alike_are_told_apart():
    keys = [key(n, b"\xff" * 8 + n.to_bytes(24, "big")) for n in range(50)]
    found = mapped(keys)
    assert [found.find(one.digest) for one in keys] == keys
    assert found.find(b"\xff" * 32) is None


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=32, max_size=32), unique=True, max_size=40), st.binary(min_size=32, max_size=32))
def test_it_finds_what_a_dict_finds(digests, other):
    keys = [key(n, one) for n, one in enumerate(digests)]
    held, found = HeldKeys(keys), mapped(keys)
    for one in [*digests, other]:
        assert held.find(one) == found.find(one)
    assert len(held) == len(found) == len(keys)


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(keyring.Remembered.__init__, "__defaults__", (4,))
    keys = [key(n) for n in range(20)]
    found = mapped(keys)
    assert [found.find(one.digest) for one in keys] == keys
    assert list(found._known) == [one.digest for one in keys[-4:]]


def test_what_came_first_is_forgotten_first():
    kept: Remembered[int] = Remembered(2)
    assert [kept.remember(bytes([n]), n) for n in range(3)] == [0, 1, 2]
    assert dict(kept) == {b"\1": 1, b"\2": 2}
