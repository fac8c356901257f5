"""Who is calling."""

import hashlib
from types import SimpleNamespace

import pytest

from fastgw._core import headers
from fastgw.errors import GatewayError
from fastgw.plan.plan import Key
from fastgw.policies import keys
from tests.policies.support import PEPPER, call_of, env_of, plan_of

SECRET = b"fgw-canary-0123456789"


def scan(*lines):
    return headers.scan([(b"host", b"h"), *lines], 100, 32768)


def bearer(secret):
    return scan((b"authorization", b"Bearer " + secret))


def head_of(*known, now=1000.0):
    plan = plan_of(known)
    return keys.build(plan, env_of(plan, now=now)).head


def known(secret=SECRET, **more):
    return Key("alice", keys.digest(secret, PEPPER), **more)


def refusal(head, found):
    call = call_of()
    with pytest.raises(GatewayError) as caught:
        head(call, found)
    assert SECRET.decode() not in caught.value.message
    assert caught.value.status == 401
    return caught.value, call


def test_the_digest_is_keyed_blake2b():
    assert keys.digest(b"s", b"p" * 32) == hashlib.blake2b(b"s", key=b"p" * 32, digest_size=32).digest()
    assert keys.digest(b"s", b"q" * 32) != keys.digest(b"s", b"p" * 32)


@pytest.mark.parametrize("name", [b"x-api-key", b"api-key", b"x-goog-api-key"])
def test_a_known_key_is_found_however_it_was_sent(name):
    head = head_of(known())
    for found in (bearer(SECRET), scan((name, SECRET))):
        call = call_of()
        head(call, found)
        assert call.key.name == "alice"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (scan(), "You didn't provide"),
        (scan((b"authorization", b"Basic abc")), "Incorrect"),
        (bearer(b""), "Incorrect"),
        (bearer(SECRET + b"x"), "Incorrect"),
        (bearer(SECRET[:-1]), "Incorrect"),
        (bearer(SECRET.upper()), "Incorrect"),
        (bearer(b"y" * 600), "Incorrect"),
    ],
)
def test_no_key_and_wrong_keys(found, text):
    error, call = refusal(head_of(known()), found)
    assert (error.kind, call.key) == ("invalid_api_key", None)
    assert error.message.startswith(text)


def test_a_blocked_key_is_named_but_refused():
    error, call = refusal(head_of(known(blocked=True)), bearer(SECRET))
    assert (error.kind, call.key.name) == ("key_blocked", "alice")
    assert "'alice'" in error.message


@pytest.mark.parametrize(("now", "ends"), [(999.0, False), (999.999, False), (1000.0, True), (2000.0, True)])
def test_a_key_lives_until_its_time(now, ends):
    head, call = head_of(known(expires=1000.0), now=now), call_of()
    if ends:
        assert refusal(head, bearer(SECRET))[0].kind == "key_expired"
    else:
        head(call, bearer(SECRET))
        assert call.key.name == "alice"


def test_blocked_comes_before_expired():
    assert refusal(head_of(known(blocked=True, expires=1.0)), bearer(SECRET))[0].kind == "key_blocked"


def test_a_gateway_without_keys_lets_nobody_in():
    assert refusal(head_of(), bearer(SECRET))[0].kind == "invalid_api_key"


def test_a_digest_is_no_secret():
    key = known()
    assert refusal(head_of(key), bearer(key.digest.hex().encode()))[0].kind == "invalid_api_key"


@pytest.mark.parametrize(
    ("path", "query", "sent", "kind"),
    [
        (b"/v1beta/models/m:generateContent", b"alt=sse&key=%b", None, None),
        (b"/genai/v1beta/models/m:generateContent", b"key=%b", b"%b", None),
        (b"/v1beta/models/m:generateContent", b"key=%b&key=other", None, "ambiguous_key"),
        (b"/v1beta/models/m:generateContent", b"key=other", b"%b", "ambiguous_key"),
        (b"/v1beta/models/m:generateContent", b"KEY=%b", None, "invalid_api_key"),
        (b"/v1/chat/completions", b"key=%b", None, "invalid_api_key"),
    ],
)
def test_geminis_clients_may_name_their_key_in_the_query(path, query, sent, kind):
    call, head = call_of(), head_of(known())
    call.exchange = SimpleNamespace(path=path, query=query.replace(b"%b", SECRET))
    found = scan() if sent is None else bearer(SECRET)
    if kind is None:
        head(call, found)
        assert call.key.name == "alice"
        return
    with pytest.raises(GatewayError) as caught:
        head(call, found)
    assert caught.value.kind == kind
