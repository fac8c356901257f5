"""A name server of a test's own, and the way to have a node ask it: `/etc/resolv.conf` in a mount namespace."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILED, NO_SUCH_NAME = 0, 2, 3


@dataclass(slots=True)
class Name:
    """What is told of a name: its addresses or a failure, after so many seconds; None for no answer at all."""

    addresses: tuple[str, ...] = ()
    code: int | None = NO_ERROR
    after: float = 0.0
    asked: int = 0


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """`async with NameServer(address) as server:`, then `server.names["x.test"] = Name(...)`. It answers over UDP."""

    address: str
    names: dict[str, Name] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question, kind = _question(data)
        name = self.names.get(question.lower(), Name(code=NO_SUCH_NAME))
        name.asked += 1
        if name.code is not None:
            answer = _answer(data, name, kind)
            asyncio.get_running_loop().call_later(name.after, self._send, answer, addr)

    def _send(self, answer: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(answer, addr)


def _question(data: bytes) -> tuple[str, int]:
    """The name and type that are asked for (RFC 1035 section 4.1.2)."""
    place, labels = 12, []
    while size := data[place]:
        labels.append(data[place + 1 : place + 1 + size].decode("ascii"))
        place += 1 + size
    return ".".join(labels), int(struct.unpack_from(">H", data, place + 1)[0])


def _answer(data: bytes, name: Name, kind: int) -> bytes:
    """The answer to a question, of the addresses of its type (RFC 1035 section 4.1)."""
    family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(kind)
    packed = [socket.inet_pton(family, one) for one in name.addresses if family and (":" in one) == (kind == AAAA)]
    end = data.index(b"\0", 12) + 5
    header = data[:2] + struct.pack(">HHHHH", 0x8180 | (name.code or 0), 1, len(packed), 0, 0)
    records = (b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(one)) + one for one in packed)
    return header + data[12:end] + b"".join(records)


def interpreter(directory: Path, server: str) -> str:
    """A program that runs this Python where names are asked of `server` only."""
    resolv, program = directory / "resolv.conf", directory / "python"
    resolv.write_text(f"nameserver {server}\noptions timeout:2 attempts:1\n")
    program.write_text(
        "#!/bin/sh\n"
        f'exec unshare -m sh -c \'mount --bind {resolv} /etc/resolv.conf && exec {sys.executable} "$@"\' sh "$@"\n'
    )
    program.chmod(0o700)
    return str(program)


def refusal(address: str) -> str:
    """Why this cannot be done here: no namespace, or no place for a name server; empty when it can."""
    if os.geteuid() != 0:
        return "a name server's port and a mount namespace need root"
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        return "no mount namespaces here"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 53))
        except OSError as error:
            return f"no name server at {address} here: {error.strerror}"
    return ""
