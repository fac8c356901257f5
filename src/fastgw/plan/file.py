"""The compiled plan on disk: written once by the supervisor, read by every worker.

Layout: magic with the format's version, the length of the head (8 bytes, little endian), a BLAKE2b-256 of the head, the
head in msgpack (what is known of the keys' part, and the plan without its keys), then the keys' part (`keyring`). The
head is read whole, the keys' part is mapped. The file holds upstream credentials: mode 0600, in the data directory,
replaced whole or not at all.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from fastgw.plan.keyring import HeldKeys, MappedKeys, PartHead, pack
from fastgw.plan.plan import Keys, Plan

MAGIC = b"fastgw-plan-2\n\0\0"
DIGEST_BYTES = 32
LENGTH_BYTES = 8
START = len(MAGIC) + LENGTH_BYTES + DIGEST_BYTES
CHUNK = 1024 * 1024


class PlanFileError(RuntimeError):
    """A plan file that is missing, cut, changed, or of another version of fastgw."""


class _Head(Struct):
    keys: PartHead
    plan: Plan


def _no_keys(value: Any) -> None:
    """The keys stand in a part of their own."""


def _none_yet(kind: Any, value: Any) -> Keys:
    return HeldKeys()


_encode = msgspec.msgpack.Encoder(enc_hook=_no_keys).encode
_decode = msgspec.msgpack.Decoder(_Head, dec_hook=_none_yet).decode


def write(path: Path | str, plan: Plan) -> None:
    """Write `plan`, atomically and durably; raises OSError and leaves no half-written file."""
    path = Path(path)
    part = plan.keys.part() if isinstance(plan.keys, HeldKeys) else pack(plan.keys)
    head = _encode(_Head(part.head, plan))
    draft = path.with_suffix(".draft")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(MAGIC + len(head).to_bytes(LENGTH_BYTES, "little") + _hash(head) + head)
            file.write(part.data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def read(path: Path | str) -> Plan:
    """The plan in a file that `write` made. Raises PlanFileError."""
    try:
        with Path(path).open("rb") as file:
            return _read(path, file.fileno(), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise PlanFileError(f"{path}: {error.strerror}") from error


def _read(path: Path | str, fd: int, size: int) -> Plan:
    first = os.pread(fd, START, 0)
    if not first.startswith(MAGIC):
        raise PlanFileError(f"{path}: not a plan of this version of fastgw")
    length = int.from_bytes(first[len(MAGIC) : len(MAGIC) + LENGTH_BYTES], "little")
    body = os.pread(fd, min(length, size), START)
    if len(first) < START or _hash(body) != first[-DIGEST_BYTES:]:
        raise PlanFileError(f"{path}: damaged, its checksum does not fit")
    try:
        head = _decode(body)
    except msgspec.MsgspecError as error:
        raise PlanFileError(f"{path}: {error}") from error
    at = START + len(body)
    if size != at + head.keys.size or _hash_of_part(fd, at) != head.keys.digest:
        raise PlanFileError(f"{path}: damaged, the checksum of its keys does not fit")
    return msgspec.structs.replace(head.plan, keys=MappedKeys(fd, at, head.keys))


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _hash_of_part(fd: int, at: int) -> bytes:
    # Read, not mapped: a page that is mapped counts as this process's memory.
    summed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while data := os.pread(fd, CHUNK, at):
        summed.update(data)
        at += len(data)
    return summed.digest()
