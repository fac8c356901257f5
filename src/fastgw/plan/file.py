"""The compiled plan on disk: written once by the supervisor, read by every worker.

Layout: magic with the format's version, a BLAKE2b-256 of the rest, the plan in msgpack. The file holds upstream
credentials: mode 0600, in the data directory, replaced whole or not at all.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from fastgw.plan.plan import Plan

MAGIC = b"fastgw-plan-1\n\0\0"
DIGEST_BYTES = 32


class PlanFileError(RuntimeError):
    """A plan file that is missing, cut, changed, or of another version of fastgw."""


def write(path: Path | str, plan: Plan) -> None:
    """Write `plan`, atomically and durably; raises OSError and leaves no half-written file."""
    path = Path(path)
    body = msgspec.msgpack.encode(plan)
    draft = path.with_suffix(".draft")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(MAGIC + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() + body)
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
        data = Path(path).read_bytes()
    except OSError as error:
        raise PlanFileError(f"{path}: {error.strerror}") from error
    if not data.startswith(MAGIC):
        raise PlanFileError(f"{path}: not a plan of this version of fastgw")
    start = len(MAGIC) + DIGEST_BYTES
    body = data[start:]
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != data[len(MAGIC) : start]:
        raise PlanFileError(f"{path}: damaged, its checksum does not fit")
    try:
        return msgspec.msgpack.decode(body, type=Plan)
    except msgspec.MsgspecError as error:
        raise PlanFileError(f"{path}: {error}") from error
