"""Names that cannot be resolved, slowly or to an address that is dead (F42). What an answer's age does is tested with
a clock of its own in `tests/upstream/test_dns.py`."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.faults import names
from tests.faults.conftest import KEY
from tests.faults.invariants import eventually, fault
from tests.faults.names import NO_SUCH_NAME, SERVER_FAILED, Name, NameServer
from tests.faults.tongues import BOTH, CHAT, TONGUES, WELL, Tongue
from tests.support.faultproxy import full_backlog
from tests.support.gateway import Node, node, reserved_port
from tests.support.scripted import ScriptedUpstream

SERVER = f"127.0.0.{77 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])}"
"""One for each process that runs tests beside others."""

HOSTS = ("good", "new", "none", "failed", "slow", "dual", "silent")
LOOK_UP_S = 1.5
refused = names.refusal(SERVER)
pytestmark = pytest.mark.skipif(bool(refused), reason=refused)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, int]]:
    """A node whose models are `{dialect}-{host}`, each at a name of its own on one port."""
    directory = tmp_path_factory.mktemp("names")
    with reserved_port() as port, pytest.MonkeyPatch.context() as patch:
        lines, models = ["providers:"], ["models:"]
        for tongue in TONGUES:
            for host in HOSTS:
                name = f"{tongue.name}-{host}"
                url = f'base_url: "http://{name}.test:{port}{tongue.base}", api_key: sk-one'
                lines.append(f"  {name}: {{kind: {tongue.kind}, {url}}}")
                timeout = "timeout: {connect: 600ms, first_token: 2s, idle: 2s, total: 4s}"
                models.append(f"  {name}: {{targets: [{{provider: {name}, model: m}}], {timeout}}}")
        config = "\n".join([*lines, *models, f"keys: [{{name: k, secret: {KEY}}}]", ""])
        patch.setattr("sys.executable", names.interpreter(directory, SERVER))
        with node(directory, config) as gateway:
            patch.undo()
            yield gateway, port


def server(host: str, name: Name) -> NameServer:
    """Of this host, in every dialect."""
    made = NameServer(SERVER)
    made.names = {f"{tongue.name}-{host}.test": name for tongue in TONGUES}
    return made


async def test_f42_a_name_that_resolves_is_served(named: tuple[Node, int]) -> None:
    gateway, port = named
    async with fault(gateway, KEY) as run, server("good", Name(("127.0.0.1",))) as asked:
        async with ScriptedUpstream([WELL], port=port):
            for one in await run.many(BOTH, "-good"):
                assert one.label.encode() in one.reply.body
        assert all(name.asked for name in asked.names.values())


@pytest.mark.parametrize(("host", "code"), [("none", NO_SUCH_NAME), ("failed", SERVER_FAILED)])
async def test_f42_a_name_that_does_not_is_a_502_at_once(named: tuple[Node, int], host: str, code: int) -> None:
    """And as soon as it resolves, calls are served."""
    gateway, port = named
    async with fault(gateway, KEY) as run, server(host, Name(code=code)) as asked:
        for (tongue, _), one in zip(BOTH, await run.many(BOTH, f"-{host}"), strict=True):
            tongue.assert_error(one.reply, 502, "upstream_unreachable")
            assert one.seconds < 2.0
        for name in asked.names:
            asked.names[name] = Name(("127.0.0.1",))
        async with ScriptedUpstream([WELL], port=port):
            assert [one.reply.status for one in await run.many(BOTH, f"-{host}")] == [200] * len(BOTH)


async def test_f42_a_dead_address_beside_a_good_one_costs_a_moment(named: tuple[Node, int]) -> None:
    """IPv6 leads nowhere: the other family is tried beside it (RFC 8305)."""
    gateway, port = named
    name = Name(("::1", "127.0.0.1"))

    def whole(tongue: Tongue) -> tuple[Tongue, bool]:
        return tongue, False

    with full_backlog("::1", port):
        async with fault(gateway, KEY) as run, server("dual", name), ScriptedUpstream([WELL], port=port) as upstream:
            for one in await run.many(map(whole, TONGUES), "-dual"):
                assert one.reply.status == 200
                assert one.seconds < 1.0
            await eventually(lambda: upstream.requests)
            assert (await run.ask(CHAT, "chat-dual", stream=True)).reply.status == 200


SLOW = {"slow": Name(("127.0.0.1",), after=1.2), "silent": Name(code=None)}


@pytest.mark.parametrize("host", SLOW)
async def test_f42_looking_up_counts_as_connecting(named: tuple[Node, int], host: str) -> None:
    """An answer that comes too late for a call is there for the next one."""
    gateway, port = named
    async with fault(gateway, KEY) as run, server(host, SLOW[host]), ScriptedUpstream([WELL], port=port):
        asks = [(CHAT, False), (CHAT, True)]
        for one in await run.many(asks, f"-{host}"):
            CHAT.assert_error(one.reply, 504, "upstream_timeout")
            assert 0.4 < one.seconds < 3.0
        await asyncio.sleep(LOOK_UP_S)
        if host == "slow":
            assert [one.reply.status for one in await run.many(asks, "-slow")] == [200, 200]


async def beside_a_silent_name(named: tuple[Node, int], host: str) -> None:
    """Calls to a name server's good name while it says nothing of others; all must be served at once."""
    gateway, port = named
    async with fault(gateway, KEY) as run, NameServer(SERVER) as asked:
        for tongue in TONGUES:
            asked.names[f"{tongue.name}-good.test"] = asked.names[f"{tongue.name}-new.test"] = Name(("127.0.0.1",))
            asked.names[f"{tongue.name}-silent.test"] = Name(code=None)
        async with ScriptedUpstream([WELL], port=port):
            await run.many(BOTH, "-good")
            waiting = [asyncio.create_task(run.ask(t, f"{t.name}-silent", stream=s)) for t, s in BOTH]
            await asyncio.sleep(0.1)
            try:
                for one in await run.many(BOTH * (2 if host == "more" else 1), "-new" if host == "new" else "-good"):
                    assert (one.reply.status, one.seconds < 0.4) == (200, True)
            finally:
                await asyncio.gather(*waiting)
                await asyncio.sleep(2 * LOOK_UP_S)


async def test_f42_a_silent_name_server_holds_no_kept_connection_up(named: tuple[Node, int]) -> None:
    await beside_a_silent_name(named, "good")


async def test_f42_a_silent_name_server_holds_no_new_connection_up(named: tuple[Node, int]) -> None:
    """To a name that is known already: twice as many calls as there are connections kept."""
    await beside_a_silent_name(named, "more")


async def test_f42_a_silent_name_server_holds_no_other_name_up(named: tuple[Node, int]) -> None:
    await beside_a_silent_name(named, "new")
