"""The console's process: started by the node, ends with it."""

import asyncio
import os
import signal
import socket
import sys

import uvloop

from fastgw import child
from fastgw.child import Channel, Job
from fastgw.console.app import Console
from fastgw.granian_host import Host
from fastgw.state.secrets import ADMIN_KEY, read_secret
from fastgw.state.table import open_table
from fastgw.telemetry.log import Log

CONNECTIONS = 256
LAST_WORDS_S = 1.0


async def _serve(job: Job, control: socket.socket) -> int:
    channel = await Channel.open(control)
    log = Log()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    try:
        key = read_secret(os.path.join(job.data_dir, ADMIN_KEY))
        table = open_table(job.data_dir, create=False)
    except Exception as error:  # noqa: BLE001 - told here, once; the node tries again
        log.error("console_start_failed", error=error)
        log.close()
        return 1
    console = Console(
        data_dir=job.data_dir,
        table=table,
        admin_key=key,
        hosts=job.hosts,
        set_level=lambda level: channel.send({"event": "log_level", "level": level}),
    )
    host = Host(console, job.listeners, loop, connections=CONNECTIONS)
    host.start()
    channel.send({"event": "ready", "pid": os.getpid(), "lane": None, "revision": job.revision})
    commands = asyncio.create_task(_obey(channel, log, ending))
    await ending.wait()
    host.stop()
    await asyncio.wait({asyncio.create_task(host.stopped.wait())}, timeout=LAST_WORDS_S)
    commands.cancel()
    log.close()
    return 0


async def _obey(channel: Channel, log: Log, ending: asyncio.Event) -> None:
    """Do what the supervisor says; when it is gone, end."""
    while (message := await channel.receive()) is not None:
        if message.get("cmd") == "drain":
            break
        if message.get("cmd") == "log_level":
            log.set_level(str(message["level"]))
    ending.set()


def main(argument: str) -> None:
    """Do the job described by `argument`; does not return."""
    job = child.read_job(argument)
    control = child.adopt(job)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    code = loop.run_until_complete(_serve(job, control))
    # granian's threads may still be waiting for the interpreter; a regular exit could wait for them in turn.
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
