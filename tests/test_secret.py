"""A credential shows itself only when asked to."""

import copy
import json
import pickle

import msgspec
import pytest

from fastgw.secret import MASK, Secret, decode_hook, mask_hook, reveal_hook

CANARY = "sk-canary-8d2f"


class Holder(msgspec.Struct):
    name: str
    key: Secret


def test_no_rendering_gives_the_value():
    secret = Secret(CANARY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:>40}", str([secret])]
    shown += [repr({"k": secret}), repr(Holder("a", secret)), repr(ValueError("refused", secret))]
    assert all(CANARY not in text for text in shown)
    assert repr(secret) == MASK
    assert secret.reveal() == CANARY


def test_no_dictionary_and_no_pickle():
    secret = Secret(CANARY)
    assert not hasattr(secret, "__dict__")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError) as refused:
        Secret(b"sk-canary-8d2f")
    assert "canary" not in str(refused.value)


def test_equality_hash_and_copies():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("é\udc80") == Secret("é\udc80")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    secret = Secret("a")
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret
    assert secret
    assert not Secret("")


def test_msgspec_masks_unless_told_to_reveal():
    holder = Holder("a", Secret(CANARY))
    assert CANARY.encode() not in msgspec.json.encode(holder, enc_hook=mask_hook)
    revealed = msgspec.msgpack.encode(holder, enc_hook=reveal_hook)
    assert msgspec.msgpack.decode(revealed, type=Holder, dec_hook=decode_hook) == holder
    with pytest.raises(TypeError):
        msgspec.json.encode(holder)


def test_msgspec_errors_name_the_path_and_not_the_value():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.key") as refused:
        msgspec.json.decode(b'{"name": "a", "key": 48151623}', type=Holder, dec_hook=decode_hook)
    assert "48151623" not in str(refused.value)
    for hook in (mask_hook, reveal_hook):
        with pytest.raises(NotImplementedError):
            hook(object())
    with pytest.raises(NotImplementedError):
        decode_hook(complex, "1")
