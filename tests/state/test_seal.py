"""Sealed ids: who made one can use it, and nobody else, and nothing but it."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.state.seal import MAX_TOKEN, Seal, Sealed

PEPPER = bytes(range(32))
SEAL = Seal(PEPPER)
THING = Sealed("openai", "resp_0123456789abcdef")
TOKEN = SEAL.seal("alice", THING, "resp_")


def test_what_is_sealed_can_be_opened_by_its_owner():
    assert TOKEN.startswith("resp_")
    assert TOKEN.removeprefix("resp_").replace("-", "").replace("_", "").isalnum()
    assert SEAL.open("alice", TOKEN, "resp_") == THING
    assert SEAL.seal("alice", THING, "resp_") == TOKEN
    assert Seal(PEPPER).open("alice", TOKEN, "resp_") == THING


def test_by_nobody_else():
    assert SEAL.open("bob", TOKEN, "resp_") is None
    assert SEAL.open("", TOKEN, "resp_") is None
    assert SEAL.open("alice", TOKEN, "file_") is None
    assert SEAL.open("alice", "file_" + TOKEN[5:], "file_") is None
    assert Seal(os.urandom(32)).open("alice", TOKEN, "resp_") is None


def test_owner_and_kind_do_not_run_into_each_other():
    assert SEAL.open("alicer", TOKEN[1:], "esp_") is None
    made = SEAL.seal("alice", THING, "")
    assert SEAL.open("alice", made, "") == THING
    assert SEAL.open("alicer", made, "") is None


@pytest.mark.parametrize("place", range(5, len(TOKEN)))
def test_no_character_can_be_changed(place):
    other = "B" if TOKEN[place] == "A" else "A"
    assert SEAL.open("alice", TOKEN[:place] + other + TOKEN[place + 1 :], "resp_") is None


@pytest.mark.parametrize(
    "token", ["", "resp_", TOKEN[:-1], TOKEN + "A", TOKEN + "=", TOKEN + "\n", TOKEN[:30] + "!" + TOKEN[30:], "resp_é"]
)
def test_no_other_spelling_opens_it(token):
    assert SEAL.open("alice", token, "resp_") is None


def test_what_a_token_vouches_for_cannot_be_exchanged():
    raw = urlsafe_b64decode(TOKEN[5:] + "=" * (-len(TOKEN[5:]) % 4))
    forged = raw.replace(b"0123", b"9999")
    assert SEAL.open("alice", "resp_" + urlsafe_b64encode(forged).rstrip(b"=").decode(), "resp_") is None


def test_bounds():
    long = SEAL.seal("alice", Sealed("p", "x" * MAX_TOKEN), "resp_")
    assert SEAL.open("alice", long, "resp_") is None
    with pytest.raises(ValueError, match="255"):
        SEAL.seal("alice", Sealed("p" * 256, "x"), "resp_")


def test_the_key_is_not_shown():
    assert repr(SEAL) == "Seal(***)"


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=200))
def test_all_that_can_be_named_comes_back(owner, place, ident):
    try:
        token = SEAL.seal(owner, Sealed(place, ident), "resp_")
    except UnicodeEncodeError:
        return  # a lone surrogate, which no name holds
    assert SEAL.open(owner, token, "resp_") == Sealed(place, ident)


@given(st.text(max_size=100))
def test_any_text_is_looked_at_without_harm(token):
    assert SEAL.open("alice", "resp_" + token, "resp_") is None
