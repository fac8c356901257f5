"""What the status says of a node's places."""

import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from fastgw.node.children import Place
from fastgw.node.listeners import describe
from fastgw.node.status import Recorder, Worker
from fastgw.plan.plan import Plan

BEHIND_S = 3.0


def recorder_of(place: Place | None, facts: dict[str, Any], heard: float) -> Recorder:
    """From what the last one said, when: a dead or stuck one is behind from then on."""
    behind = float(facts.get("behind_s", 0.0)) + time.monotonic() - heard
    return Recorder(
        pid=place.current.pid if place and place.current else None,
        restarts=place.restarts if place else 0,
        records=int(facts.get("records", 0)),
        damaged=int(facts.get("damaged", 0)),
        behind_s=int(behind) if behind >= BEHIND_S else 0,
        problem=facts.get("problem"),
    )


def worker_of(place: Place) -> Worker:
    """From what its current process last said."""
    process = place.current
    if process is None:
        return Worker(place.index, None, None, "starting", 0, None, place.restarts)
    facts = process.facts
    return Worker(
        index=place.index,
        pid=process.pid,
        lane=process.lane,
        state=process.state,
        revision=process.revision,
        started=process.started,
        restarts=place.restarts,
        error=process.error,
        live=int(facts.get("live", 0)),
        idle=int(facts.get("idle", 0)),
        busy=int(facts.get("busy", 0)),
        overloaded=str(facts.get("overloaded", "")),
        shed=int(facts.get("shed", 0)),
    )


def ready_in(places: Iterable[Place]) -> bool:
    """Whether some worker takes new calls."""
    living = (place.current for place in places)
    return any(one and one.state == "ready" and not one.facts.get("overloaded") for one in living)


def listening(sockets: Iterable[socket.socket], plan: Plan | None) -> list[str]:
    """Where callers can reach the node."""
    tls = plan is not None and plan.edge.front.tls is not None
    return [describe(end, tls=tls) for end in sockets if end.fileno() >= 0]


def tls_expires(plan: Plan | None) -> int | None:
    """When the certificate ends that callers are shown."""
    return plan.edge.front.tls.expires if plan is not None and plan.edge.front.tls is not None else None


def problems_of(places: Iterable[Place]) -> Iterator[str]:
    """What is wrong in the places' processes, by their own word."""
    for place in places:
        for process in place.processes:
            if process.facts.get("problem"):
                yield str(process.facts["problem"])
