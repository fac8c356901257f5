"""What can be wrong with a set-up before anything is served, and how to mend it."""

import os
import resource
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from fastgw import _core
from fastgw._core import table as shared
from fastgw.node.cores import available_cores
from fastgw.plan.compile import build
from fastgw.plan.decode import ConfigErrors
from fastgw.plan.plan import Plan
from fastgw.plan.sources import Sources, providers_in
from fastgw.telemetry.metrics import SeriesRegistry

FILES_WANTED = 4096
DISK_WANTED = 256 * 1024 * 1024
CONNECT_SECONDS = 3.0
DAY = 86_400
EXPIRY_DAYS = 14

Grade = Literal["good", "note", "bad"]


class Finding(NamedTuple):
    """One thing that was looked at. `mend` is what to do about it, empty when it is well."""

    grade: Grade
    subject: str
    text: str
    mend: str = ""


def examine(config: str | None, data_dir: Path, port: int) -> list[Finding]:
    """Look at everything that can be looked at without serving."""
    found = [_python(), *_native(), _files(), _cores(), *_data(data_dir), _port(port)]
    plan, findings = _config(config, data_dir)
    found += findings
    if plan is not None:
        found += [*_certificate(plan, time.time()), *_upstreams(plan)]
    return found


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("good", "python", f"{version} on {sys.platform}")


def _native() -> Iterator[Finding]:
    for name, native in _core.NATIVE.items():
        if native:
            yield Finding("good", f"native {name}", "compiled")
        else:
            reason = _core.REASONS.get(name, "")
            yield Finding(
                "note",
                f"native {name}",
                f"its pure twin serves, much slower ({reason})",
                "install a C compiler and Python's headers and reinstall fastgw",
            )


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= FILES_WANTED:
        return Finding("good", "open files", f"limit {soft}")
    grade: Grade = "note" if hard >= FILES_WANTED else "bad"
    return Finding(
        grade, "open files", f"limit {soft} (hard {hard}): each connection takes one", f"ulimit -n {FILES_WANTED}"
    )


def _cores() -> Finding:
    allowed, there = available_cores(), os.cpu_count() or 1
    return Finding("good", "cores", f"{allowed} of {there} may be used: as many workers by default")


def _data(path: Path) -> Iterator[Finding]:
    place = path if path.exists() else path.absolute().parent
    if not path.exists():
        yield Finding("note", "data directory", f"{path} does not exist yet and will be made")
    else:
        status = path.stat()
        if status.st_uid != os.geteuid():
            yield Finding(
                "bad", "data directory", f"{path} belongs to uid {status.st_uid}", f"chown {os.geteuid()} {path}"
            )
        elif stat.S_IMODE(status.st_mode) & 0o077:
            yield Finding("bad", "data directory", f"{path} is open to others", f"chmod 700 {path}")
        else:
            yield Finding("good", "data directory", f"{path} is private")
    if not os.access(place, os.W_OK):
        yield Finding("bad", "data directory", f"{place} cannot be written", "choose another with --data-dir")
        return
    free = shutil.disk_usage(place).free
    grade: Grade = "good" if free >= DISK_WANTED else "bad"
    yield Finding(grade, "disk", f"{free // 2**20} MiB free at {place}", "" if grade == "good" else "free some space")


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            mend = f"if that is not fastgw already: `ss -ltnp 'sport = :{port}'` shows who; or choose another --port"
            return Finding("note", f"port {port}", error.strerror or str(error), mend)
    return Finding("good", f"port {port}", "free")


def _config(config: str | None, data_dir: Path) -> tuple[Plan | None, list[Finding]]:
    environ = dict(os.environ)
    if config is None and not providers_in(environ):
        text = "no fastgw.yaml here and no provider key in the environment"
        return None, [Finding("note", "config", text, "write fastgw.yaml (see fastgw.example.yaml) or serve --demo")]
    subject = config or "environment"
    with tempfile.TemporaryDirectory(prefix="fastgw-doctor-") as scratch:
        table = shared.Table.open(str(Path(scratch) / "table"), create=True)
        sources = Sources(data_dir=scratch, environ=environ, config=config)
        try:
            plan = build(sources, revision=0, table=table, registry=SeriesRegistry(table.counters))
        except ConfigErrors as errors:
            return None, [
                Finding("bad", subject, error, "correct it; `fastgw check` shows all") for error in errors.errors
            ]
        finally:
            table.close()
    return plan, [Finding("good", subject, f"{len(plan.models)} models, {len(plan.keys)} keys")]


def _certificate(plan: Plan, now: float) -> Iterator[Finding]:
    """How long the certificate lasts that callers are shown, where they are shown one."""
    tls = plan.edge.front.tls
    if tls is None:
        return
    days = int((tls.expires - now) // DAY)
    mend = "renew it and write the new pair over the files of listen.tls: it is taken over while serving"
    if now >= tls.expires:
        yield Finding("bad", "certificate", "has expired: clients refuse it", mend)
    elif days < EXPIRY_DAYS:
        yield Finding("note", "certificate", f"expires in {days} days", mend)
    else:
        yield Finding("good", "certificate", f"lasts {days} days")


def _upstreams(plan: Plan) -> Iterator[Finding]:
    """Whether each provider's address takes a connection; through a proxy, whether the proxy's does."""
    for name, upstream in plan.upstreams.items():
        origin = upstream.origin
        if origin.proxy:
            yield Finding("note", f"provider {name}", "behind an egress proxy: not tried")
            continue
        try:
            socket.create_connection((origin.host, origin.port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            text = f"{origin.host}:{origin.port} cannot be reached: {error}"
            yield Finding("bad", f"provider {name}", text, "check base_url, the name server and the firewall")
        else:
            yield Finding("good", f"provider {name}", f"{origin.host}:{origin.port} takes connections")
