"""The built-in mock as a child of the node: `python -m fastgw.node.demo JOB`."""

import asyncio
import os
import signal
import socket
import sys

import uvloop

from fastgw import mock
from fastgw.child import Channel, Job, adopt, read_job
from fastgw.mock.options import MockOptions


async def _serve(job: Job, control: socket.socket) -> None:
    channel = await Channel.open(control)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    server = await mock.start(MockOptions(), sock=socket.socket(fileno=job.listeners[0].fd))
    channel.send({"event": "ready", "pid": os.getpid(), "lane": None, "revision": 0})
    commands = asyncio.create_task(_until_told(channel))
    end = asyncio.create_task(ending.wait())
    await asyncio.wait({commands, end}, return_when=asyncio.FIRST_COMPLETED)
    commands.cancel()
    end.cancel()
    await server.close()


async def _until_told(channel: Channel) -> None:
    """Until the supervisor says so, or is gone."""
    while (message := await channel.receive()) is not None:
        if message.get("cmd") == "drain":
            return


def main(argument: str) -> None:
    """Serve the mock on the listener of the job until told to end."""
    job = read_job(argument)
    control = adopt(job)
    uvloop.run(_serve(job, control))


if __name__ == "__main__":
    main(sys.argv[1])
