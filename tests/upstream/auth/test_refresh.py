"""The vault: one fetch for all that wait, renewal ahead of time, old tokens in need, what is said without one."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from fastgw.errors import UpstreamError
from fastgw.plan.credentials import Ibm
from fastgw.plan.plan import Model, Target
from fastgw.upstream.auth import refresh
from fastgw.upstream.auth.refresh import Vault
from fastgw.upstream.client import Client
from fastgw.upstream.route import Routes
from tests.support.endpoint import endpoint, refuse, token, tokens
from tests.upstream.test_route import plan_of, upstream

HEAD = b"POST / HTTP/1.1\r\nhost: h\r\n\r\n"
SECRET = "ibm-planted-key-4Hq8"


@pytest.fixture
async def vault():
    reports = []
    made = Vault(asyncio.get_running_loop(), report=lambda event, **facts: reports.append((event, facts)))
    made.reports = reports
    yield made
    made.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Retries at once, so that a test of them takes no seconds."""
    monkeypatch.setattr(refresh, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(refresh, "LEAST_S", 0.02)


def ibm(at):
    return Ibm(SECRET, f"{at.url}/identity/token")


async def until(check, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def line(source, seconds=5.0):
    """The header a request would get."""
    proof = source.current or await source.first(seconds)
    head = proof.sign(HEAD, b"")
    assert head.startswith(HEAD[:-2])
    assert head.endswith(b"\r\n\r\n")
    return head[len(HEAD) - 2 : -4]


async def test_the_token_is_there_before_it_is_asked_for(vault):
    with endpoint(token()) as at:
        source = vault.source(ibm(at), "up")
        await until(lambda: source.current is not None)
        assert await line(source) == b"authorization: Bearer token-1"
        assert source.secret == b"token-1"
        assert len(at.asked) == 1


async def test_many_who_wait_for_the_first_make_one_fetch(vault):
    gate = threading.Event()

    def slow(asked):
        gate.wait(5)
        return token()(asked)

    with endpoint(slow) as at:
        source = vault.source(ibm(at), "up")
        waiting = [asyncio.create_task(line(source)) for _ in range(50)]
        await until(lambda: at.asked)
        assert not any(one.done() for one in waiting)
        gate.set()
        assert set(await asyncio.gather(*waiting)) == {b"authorization: Bearer token-1"}
        assert len(at.asked) == 1


async def test_a_token_is_renewed_before_it_ends_and_never_missing(vault):
    with endpoint(tokens(1.0)) as at:
        source = vault.source(ibm(at), "up")
        await source.first(5)
        missing = 0
        while source.renewals < 3:
            missing += source.current is None
            await asyncio.sleep(0.005)
        assert missing == 0
        assert await line(source) >= b"authorization: Bearer token-3"
        assert len(at.asked) >= 3
        assert (source.failures, vault.reports) == (0, [])


async def test_a_failing_renewal_leaves_the_old_one_until_it_expires(vault):
    with endpoint(token(seconds=1.2)) as at:
        source = vault.source(ibm(at), "up")
        await source.first(5)
        at.say(refuse(503))
        await until(lambda: source.failures >= 2)
        assert vault.failures == source.failures
        assert await line(source) == b"authorization: Bearer token-1"
        assert vault.reports[0][1]["old_one_serves"] is True
        await until(lambda: source.current is None)
        with pytest.raises(UpstreamError) as caught:
            await source.first(0.01)
        assert caught.value.kind == "upstream_auth_failed"
        assert (caught.value.reason, caught.value.sent) == ("auth", False)
        at.say(token("token-2"))
        assert await line(source) == b"authorization: Bearer token-2"


async def test_without_a_token_the_wait_is_bounded_and_says_what_failed(vault):
    with endpoint(refuse(400, errorCode="BXNIM0415E", errorMessage=f"key {SECRET} not found")) as at:
        source = vault.source(ibm(at), "up")
        began = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            await source.first(0.3)
        assert time.monotonic() - began < 3
        message = caught.value.message
        assert "answered 400 BXNIM0415E" in message
        assert "'up'" in message
        assert SECRET not in message + repr(vault.reports)
        event, facts = vault.reports[0]
        assert (event, facts["provider"], facts["scheme"]) == ("credential_not_renewed", "up", "ibm")


async def test_nobody_waits_for_an_attempt_that_comes_too_late(vault, monkeypatch):
    monkeypatch.setattr(refresh, "RETRY_FIRST_S", 20.0)
    monkeypatch.setattr(refresh, "LEAST_S", 0.02)
    with endpoint(refuse()) as at:
        source = vault.source(ibm(at), "up")
        await until(lambda: source.failures == 1)
        began = time.monotonic()
        with pytest.raises(UpstreamError):
            await source.first(10)
        assert time.monotonic() - began < 2
        assert len(at.asked) == 1


async def test_a_hanging_service_costs_the_caller_the_timeout_only(vault):
    gate = threading.Event()

    def never(asked):
        gate.wait(10)
        return token()(asked)

    with endpoint(never) as at:
        source = vault.source(ibm(at), "up")
        began = time.monotonic()
        with pytest.raises(UpstreamError, match="no answer in time"):
            await source.first(0.2)
        assert 0.15 < time.monotonic() - began < 3
        gate.set()


async def test_a_refused_token_is_fetched_anew_unless_it_is_young(vault, monkeypatch):
    with endpoint(tokens(3600)) as at:
        source = vault.source(ibm(at), "up")
        await source.first(5)
        source.refused()
        await asyncio.sleep(0.2)
        assert len(at.asked) == 1, "a new one would be refused as well"
        monkeypatch.setattr(refresh, "REFUSED_S", 0.0)
        source.refused()
        await until(lambda: source.renewals == 2)
        assert await line(source) == b"authorization: Bearer token-2"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda asked: (200, {"access_token": "a\r\nx: y", "expires_in": 60}), "no usable token"),
        (lambda asked: (200, {"access_token": "", "expires_in": 60}), "no usable token"),
        (lambda asked: (200, {"access_token": "x" * 20_000, "expires_in": 60}), "longer than"),
        (lambda asked: (200, {"expires_in": 60}), "no usable token"),
        (lambda asked: (200, {"access_token": "t"}), "how long"),
        (lambda asked: (200, {"access_token": "t", "expires_in": 0}), "expired already"),
        (lambda asked: (200, {"access_token": "t", "expires_in": "nan"}), "expired already"),
        (lambda asked: (200, b"<html>"), "no JSON object"),
        (lambda asked: (200, b"[]"), "no JSON object"),
        (lambda asked: (302, b""), "answered 302"),
        (lambda asked: (500, b"[" * 200_000), "answered 500"),
        (lambda asked: (400, {"error": SECRET}), "answered 400;|answered 400\\)"),
    ],
)
async def test_answers_that_hold_no_token(vault, answer, said):
    with endpoint(answer, {"location": "http://127.0.0.1:1/"}) as at:
        source = vault.source(ibm(at), "up")
        with pytest.raises(UpstreamError, match=said) as caught:
            await source.first(0.5)
        assert SECRET not in caught.value.message


async def test_what_nobody_foresaw_is_told_by_its_kind_alone(vault, monkeypatch):
    def broken(credential):
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(refresh, "fetcher", broken)
    source = vault.source(Ibm(SECRET, "http://127.0.0.1:1"), "up")
    with pytest.raises(UpstreamError, match="failed with ZeroDivisionError") as caught:
        await source.first(0.1)
    assert SECRET not in caught.value.message + repr(vault.reports)


async def test_equal_credentials_are_one_also_over_a_new_plan():
    client = Client(asyncio.get_running_loop())
    with endpoint(tokens(3600)) as at:
        first = client.vault.source(ibm(at), "up")
        await first.first(5)
        again = client.vault.source(Ibm(SECRET, f"{at.url}/identity/token"), "renamed")
        assert again is first
        other = client.vault.source(Ibm("another-key", f"{at.url}/identity/token"), "up")
        assert other is not first
        await other.first(5)
        client.vault.retire({ibm(at), None})
        assert client.vault.sources() == [first]
        assert other.current is not None, "calls of the old plan go on"
        assert len(at.asked) == 2
    await client.close()


async def test_a_call_of_an_older_plan_finds_the_source_that_is_kept(vault):
    with endpoint(tokens(3600)) as at:
        old = vault.source(ibm(at), "up")
        vault.retire(set())
        assert await line(old) == b"authorization: Bearer token-1", "it is kept again"
        assert vault.sources() == [old]
        vault.retire(set())
        old.current = None
        new = vault.source(ibm(at), "up")
        assert new is not old
        proof = await old.first(5)
        assert proof is new.current
    vault.close()
    old.current = None
    with pytest.raises(UpstreamError):
        await old.first(0.05)


async def test_a_plan_binds_each_way_to_its_source():
    client = Client(asyncio.get_running_loop())
    with endpoint(token()) as at:
        signed = upstream("a", credential=ibm(at))
        plain = upstream("b", auth_header="authorization", auth_value="Bearer KEY")
        ways = routes_of(client, signed, plain)
        assert ways["b"].signer is None
        assert ways["a"].signer is client.vault.source(ibm(at), "a")
        head = await ways["a"].signed(ways["a"].head("openai_chat", "m", b"", 2), b"{}", 5)
        assert head.endswith(b"\r\ncontent-length: 2\r\nauthorization: Bearer token-1\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1
    await client.close()


def routes_of(client, *upstreams):
    models = [Model(one.name, (Target(f"{one.name}/m", one.name, "m"),)) for one in upstreams]
    routes = Routes(plan_of(upstreams, models), client)
    return {name: route.ways[0] for name, route in routes.exact.items()}


async def test_closing_while_a_fetch_hangs_is_quick():
    gate = threading.Event()

    def never(asked):
        gate.wait(10)
        return token()(asked)

    with endpoint(never) as at:
        vault = Vault(asyncio.get_running_loop())
        vault.source(ibm(at), "up")
        await until(lambda: at.asked)
        began = time.monotonic()
        vault.close()
        await asyncio.sleep(0)
        assert time.monotonic() - began < 2
        gate.set()


def test_credentials_do_not_show_themselves():
    assert SECRET not in repr(Ibm(SECRET, "https://x"))


LOADED = """
import asyncio, sys
from fastgw.gateway import worker
from fastgw.plan.credentials import Ibm
from fastgw.upstream.client import Client

HEAVY = {"botocore", "google.auth", "requests", "cryptography", "fastgw.upstream.auth.ibm", "urllib.request"}
print(sorted(HEAVY & set(sys.modules)))

async def main():
    client = Client(asyncio.get_running_loop())
    source = client.vault.source(Ibm("k", "http://127.0.0.1:1"), "up")
    while not source.failures:
        await asyncio.sleep(0.01)
    await client.close()

asyncio.run(main())
print(sorted(HEAVY & set(sys.modules)))
"""


def test_a_worker_loads_the_schemes_that_it_uses_and_no_other():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "['fastgw.upstream.auth.ibm', 'urllib.request']"]
