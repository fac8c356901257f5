"""A child for tests of places: does what the name in its job's `plan` says."""

import os
import signal
import sys
import time

import msgspec

from fastgw import child


def main() -> None:
    job = child.read_job(sys.argv[1])
    behaviour = job.plan
    if behaviour == "die":
        raise SystemExit(7)
    control = child.adopt(job)
    control.setblocking(True)

    def tell(event: str, **facts: object) -> None:
        control.sendall(msgspec.json.encode({"event": event, "pid": os.getpid(), **facts}) + b"\n")

    if behaviour == "mute":
        time.sleep(60)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell("ready", lane=1, revision=job.revision)
        time.sleep(60)
    if behaviour == "stubborn-start":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell("beat")
        time.sleep(60)
    if behaviour == "busy":  # neither the channel nor a signal handler of Python's would ever be looked at
        signal.signal(signal.SIGTERM, lambda *_: None)
        tell("ready", lane=1, revision=job.revision)
        while True:
            pass
    tell("ready", lane=1, revision=job.revision)
    with control.makefile("rb") as lines:
        for line in lines:
            message = msgspec.json.decode(line)
            tell("echo", message=message)
            if message["cmd"] == "drain":
                return


main()
