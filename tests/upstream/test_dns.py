"""The memory before the resolver, with a resolver and a clock that do as they are told."""

import asyncio
import socket

import pytest

from fastgw.upstream import dns
from fastgw.upstream.dns import Resolver, interleave


def v4(host):
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 80))


def v6(host):
    return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 80, 0, 0))


class Names:
    """A name server: answers with `answer`, raises it when it is an error, waits for `gate` first."""

    def __init__(self):
        self.now = 1000.0
        self.asked = 0
        self.answer = [v4("192.0.2.1")]
        self.gate = asyncio.Event()
        self.gate.set()

    async def lookup(self, host, port):
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
async def names():
    return Names()


@pytest.fixture
async def resolver(names):
    resolver = Resolver(asyncio.get_running_loop(), lookup=names.lookup, clock=lambda: names.now, patience=0.05)
    yield resolver
    resolver.close()


async def test_an_answer_is_used_for_its_time_and_then_renewed(names, resolver):
    assert await resolver.resolve("a", 80) == [v4("192.0.2.1")]
    names.answer = [v4("192.0.2.2")]
    names.now += 29
    assert await resolver.resolve("a", 80) == [v4("192.0.2.1")]
    assert names.asked == 1
    names.now += 2
    assert await resolver.resolve("a", 80) == [v4("192.0.2.2")]
    assert names.asked == 2


@pytest.mark.parametrize("failure", [socket.gaierror(-3, "Temporary failure"), OSError("x"), []])
async def test_the_last_good_answer_serves_while_the_resolver_fails(names, resolver, failure):
    await resolver.resolve("a", 80)
    names.answer = failure
    for age in (31, 600, 2000):
        names.now += age
        assert await resolver.resolve("a", 80) == [v4("192.0.2.1")]
    assert (resolver.served_stale, resolver.failures) == (3, 3)
    names.now += 2000
    with pytest.raises(OSError, match="cannot resolve a"):
        await resolver.resolve("a", 80)
    names.answer = [v4("192.0.2.9")]
    assert await resolver.resolve("a", 80) == [v4("192.0.2.9")]


async def test_a_failing_resolver_is_not_asked_for_every_call(names, resolver):
    await resolver.resolve("a", 80)
    names.answer = OSError("x")
    names.now += 31
    for _ in range(10):
        await resolver.resolve("a", 80)
    assert names.asked == 2


async def test_a_slow_resolver_is_waited_for_briefly_and_its_answer_kept(names, resolver):
    await resolver.resolve("a", 80)
    names.now += 31
    names.gate.clear()
    names.answer = [v4("192.0.2.2")]
    assert await resolver.resolve("a", 80) == [v4("192.0.2.1")]
    assert await resolver.resolve("a", 80) == [v4("192.0.2.1")]
    assert names.asked == 2
    names.gate.set()
    await asyncio.sleep(0.01)
    assert await resolver.resolve("a", 80) == [v4("192.0.2.2")]
    assert names.asked == 2


async def test_an_unknown_name_fails_and_is_asked_again(names, resolver):
    names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    for _ in range(2):
        with pytest.raises(OSError, match="cannot resolve a: Name or service not known"):
            await resolver.resolve("a", 80)
    assert names.asked == 2


async def test_callers_share_one_lookup_and_may_leave(names, resolver):
    names.gate.clear()
    tasks = [asyncio.create_task(resolver.resolve("a", 80)) for _ in range(5)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    names.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [[v4("192.0.2.1")]] * 4
    assert names.asked == 1


async def test_the_memory_is_bounded(names, resolver, monkeypatch):
    monkeypatch.setattr(dns, "MAX_NAMES", 3)
    for number in range(10):
        names.now += 1
        await resolver.resolve(f"n{number}", 80)
    assert list(resolver._names) == [("n7", 80), ("n8", 80), ("n9", 80)]


async def test_literal_addresses_are_not_asked_for(names, resolver):
    assert (await resolver.resolve("192.0.2.7", 1))[0][4] == ("192.0.2.7", 1)
    assert (await resolver.resolve("::1", 1))[0][4] == ("::1", 1, 0, 0)
    assert names.asked == 0


async def test_the_systems_own_resolver():
    resolver = Resolver(asyncio.get_running_loop())
    found = await resolver.resolve("localhost", 80)
    assert {address[4][0] for address in found} <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError):
        await resolver.resolve("a" * 70 + ".invalid", 80)


def test_families_take_turns():
    six, four = [v6(f"2001:db8::{n}") for n in range(3)], [v4(f"192.0.2.{n}") for n in range(2)]
    assert interleave(six + four) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleave(four) == four
    assert interleave([]) == []
