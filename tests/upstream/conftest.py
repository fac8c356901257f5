"""Every asynchronous test here runs twice: on uvloop and on plain asyncio."""

import asyncio

import pytest
import uvloop

from fastgw.upstream.client import Client


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def client():
    client = Client(asyncio.get_running_loop())
    client.start()
    yield client
    await client.close()
