"""The stored keys: made, listed, revoked; whole or not at all, whoever else is at it."""

import multiprocessing
import os
import stat

import pytest

from fastgw.plan.config import Limits
from fastgw.plan.keystore import KeyStore, KeyStoreError
from fastgw.policies.keys import digest
from fastgw.state.secrets import ensure_pepper, read_secret
from tests.plan.support import MODELS, PROVIDERS, compiled


def test_a_made_key_is_known_by_its_hash_only(tmp_path):
    store = KeyStore(tmp_path)
    secret = store.create("alice", ["fast"], Limits(requests="60/min"), "2030-01-01")
    (row,) = store.rows()
    assert secret.startswith("fgw-")
    assert (row.name, row.models, row.expires, row.blocked) == ("alice", ["fast"], "2030-01-01", False)
    assert row.prefix == secret[:8]
    assert bytes.fromhex(row.hash) == digest(secret.encode(), bytes.fromhex(read_secret(ensure_pepper(tmp_path))))
    assert all(secret not in path.read_text() for path in tmp_path.iterdir())
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_what_was_made_compiles(tmp_path):
    store = KeyStore(tmp_path)
    secret = store.create("alice", ["fast"], Limits(requests="60/min", burst=3), "2030-01-01")
    plan = compiled(tmp_path, PROVIDERS + MODELS)
    (key,) = plan.keys
    assert key.digest == digest(secret.encode(), plan.pepper)
    assert (key.name, key.models, key.prefix, key.rules[0].burst) == ("alice", {"fast"}, secret[:8], 3)
    store.revoke("alice")
    assert compiled(tmp_path, PROVIDERS + MODELS).keys.find(key.digest).blocked


@pytest.mark.parametrize(
    ("name", "limits", "expires"),
    [
        ("two words", Limits(), None),
        ("", Limits(), None),
        ("a\n", Limits(), None),
        ("-a", Limits(), None),
        ("a", Limits(requests="60"), None),
        ("a", Limits(requests="60/week"), None),
        ("a", Limits(budget="60/min"), None),
        ("a", Limits(requests="60/min", burst=0), None),
        ("a", Limits(requests="1/min", burst=10**12), None),
        ("a", Limits(burst=5), None),
        ("a", Limits(), "tomorrow"),
    ],
)
def test_a_key_that_would_not_compile_is_not_stored(tmp_path, name, limits, expires):
    with pytest.raises(KeyStoreError):
        KeyStore(tmp_path).create(name, None, limits, expires)
    assert KeyStore(tmp_path).rows() == []


def test_a_name_is_taken_once_for_ever(tmp_path):
    store = KeyStore(tmp_path)
    store.create("a", None, Limits(), None)
    store.revoke("a")
    with pytest.raises(KeyStoreError, match="'a'"):
        store.create("a", None, Limits(), None)
    assert len(store.rows()) == 1


def test_revoking_touches_one_row_and_may_be_said_twice(tmp_path):
    store = KeyStore(tmp_path)
    for name in "abc":
        store.create(name, None, Limits(), None)
    before = store.rows()
    store.revoke("b")
    store.revoke("b")
    after = store.rows()
    assert [row.blocked for row in after] == [False, True, False]
    assert [row.hash for row in after] == [row.hash for row in before]
    with pytest.raises(KeyStoreError, match="'d'"):
        store.revoke("d")


def test_a_damaged_file_is_told_and_not_overwritten(tmp_path):
    store = KeyStore(tmp_path)
    store.path.write_text('{"name": "a"')
    with pytest.raises(KeyStoreError, match=r"keys\.jsonl"):
        store.create("b", None, Limits(), None)
    assert store.path.read_text() == '{"name": "a"'


def make_some(directory, worker, count):
    store = KeyStore(directory)
    for number in range(count):
        store.create(f"k{worker}-{number}", None, Limits(), None)


def test_keys_made_at_the_same_time_are_all_there(tmp_path):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    makers = [context.Process(target=make_some, args=(tmp_path, worker, 8)) for worker in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(30)
        assert maker.exitcode == 0
    rows = KeyStore(tmp_path).rows()
    assert {row.name for row in rows} == {f"k{worker}-{number}" for worker in range(4) for number in range(8)}
    assert len({row.hash for row in rows}) == 32


def test_no_draft_is_followed_elsewhere(tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "keys.draft").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        KeyStore(tmp_path).create("a", None, Limits(), None)
    assert (tmp_path / "elsewhere").read_text() == "mine"
