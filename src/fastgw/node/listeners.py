"""Listening sockets: bound once, by the supervisor, and handed to the processes that accept on them.

Never with SO_REUSEPORT: with it a second instance on the same port would start and silently take part of the traffic,
and whatever waits in a dead worker's own queue would be reset. One shared queue has neither problem.
"""

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastgw.node.errors import NOTHING_TO_SERVE, PORT_TAKEN, StartError

BACKLOG = 1024
UNIX_MODE = 0o660
_TRIES = 8

Address = tuple[int, tuple[Any, ...]]


def bind_tcp(hosts: Iterable[str], port: int, given: list[socket.socket] | None = None) -> list[socket.socket]:
    """A listening socket for each address the hosts stand for (`localhost` may be IPv4 and IPv6), all on one port.

    Those of ``given`` that listen there already are taken out of it and used; port 0 is then any of theirs.

    Raises:
        StartError: (3) the port is taken or forbidden, (2) a host is no address of this machine.
    """
    tries = _TRIES if port == 0 else 1
    while True:
        tries -= 1
        sockets: dict[Address, socket.socket] = {}
        try:
            for host in hosts:
                _bind_host(host, port, sockets, given if given is not None else [])
        except StartError as error:
            close_all(sockets.values())
            if error.code != PORT_TAKEN or not tries:
                raise
            continue  # the number the kernel chose for the first address was not free at the second
        return list(sockets.values())


def bind_unix(path: str, given: list[socket.socket] | None = None) -> socket.socket:
    """A listening unix socket at `path`; one left behind by a process that is gone is replaced.

    One of ``given`` that listens there already is taken out of it and used.

    Raises:
        StartError: (3) something listens there or it is no socket, (2) the path cannot be used.
    """
    if given is not None and (found := _take(given, socket.AF_UNIX, path)):
        return found
    end = socket.socket(socket.AF_UNIX)
    try:
        _clear_stale(path)
        end.bind(path)
        os.chmod(path, UNIX_MODE)
        end.listen(BACKLOG)
    except OSError as error:
        end.close()
        code = PORT_TAKEN if error.errno == errno.EADDRINUSE else NOTHING_TO_SERVE
        raise StartError(code, f"cannot listen on unix socket {path}: {error.strerror or error}") from error
    except BaseException:
        end.close()
        raise
    end.setblocking(False)
    return end


def describe(end: socket.socket, *, tls: bool = False) -> str:
    """Where a listening socket can be reached: `http://127.0.0.1:4000`, `https://[::1]:4000`, `unix:/run/x.sock`."""
    name = end.getsockname()
    if end.family == socket.AF_UNIX:
        return f"unix:{name}"
    scheme = "https" if tls else "http"
    return f"{scheme}://[{name[0]}]:{name[1]}" if end.family == socket.AF_INET6 else f"{scheme}://{name[0]}:{name[1]}"


def beyond_loopback(hosts: Iterable[str]) -> list[str]:
    """Those of `hosts` that other machines may reach."""
    return [host for host in hosts if not _is_loopback(host)]


def close_all(sockets: Iterable[socket.socket], *, unlink: bool = True) -> None:
    """Close our copies, and take the name of a unix socket away unless others go on there."""
    for end in sockets:
        name = end.getsockname() if end.fileno() >= 0 and end.family == socket.AF_UNIX else None
        end.close()
        if name and unlink:
            with suppress(OSError):
                os.unlink(name)


def owner_of(port: int) -> str:
    """Which process of this machine listens on a TCP port, as far as we may see: `nginx (pid 12)`, or nothing."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _bind_host(host: str, port: int, sockets: dict[Address, socket.socket], given: list[socket.socket]) -> None:
    """Add the sockets of one host to `sockets`, those of an address it has already excepted."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(NOTHING_TO_SERVE, f"cannot listen on {host}: {error.strerror or error}") from error
    absent: OSError | None = None
    bound = 0
    for family, _, _, _, address in found:
        if (family, address) not in sockets:
            number = next(iter(sockets.values())).getsockname()[1] if port == 0 and sockets else port
            wanted = (address[0], number, *address[2:])
            try:
                sockets[family, address] = _take(given, family, wanted) or _listen_tcp(family, wanted)
            except OSError as error:
                # A name may have an IPv6 address where the machine has no IPv6: its other address will do.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise _refused(host, number, error) from error
                absent = error
                continue
        bound += 1
    if absent is not None and not bound:
        raise _refused(host, port, absent) from absent


def _take(given: list[socket.socket], family: int, wanted: Any) -> socket.socket | None:
    """The one that listens at this address, and is not to be taken again."""
    for place, end in enumerate(given):
        name = end.getsockname()
        if end.family == family and (name == wanted or (name[0] == wanted[0] and wanted[1] == 0)):
            return given.pop(place)
    return None


def _listen_tcp(family: int, address: tuple[Any, ...]) -> socket.socket:
    end = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Accepted sockets inherit it, and granian sets it on none: without it an event of a stream waits up to 40 ms
        # for the client's delayed acknowledgement of the one before.
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # On Linux this lets a restart pass TIME_WAIT; it does not let two processes listen.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        end.bind(address)
        end.listen(BACKLOG)
        end.setblocking(False)
    except BaseException:
        end.close()
        raise
    return end


def _refused(host: str, port: int, error: OSError) -> StartError:
    where = f"cannot listen on {host} port {port}"
    if error.errno == errno.EADDRINUSE:
        owner = owner_of(port)
        return StartError(PORT_TAKEN, f"{where}: taken by {owner or 'another process'}; stop it or choose another port")
    if error.errno == errno.EACCES:
        return StartError(PORT_TAKEN, f"{where}: not permitted; ports below 1024 need a privilege")
    return StartError(NOTHING_TO_SERVE, f"{where}: {error.strerror or error}")


def _clear_stale(path: str) -> None:
    """Remove a socket file nobody listens on."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(PORT_TAKEN, f"cannot listen on unix socket {path}: there is a file which is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:  # a full queue: somebody is there
            pass
    raise StartError(PORT_TAKEN, f"cannot listen on unix socket {path}: taken by another process")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _listening_inodes(port: int) -> set[str]:
    """Inodes of sockets in state LISTEN (0A) on `port`, from /proc/net (proc(5))."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(fields[9])
    return inodes
