"""The stored keys: rows of `keys.jsonl` in the data directory, of which only a keyed hash of the secret is kept."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fastgw._core import table
from fastgw.plan.compile import check_stored
from fastgw.plan.config import Limits, StoredKey
from fastgw.plan.sources import STORED_KEYS
from fastgw.policies.keys import digest, flag_id
from fastgw.state.secrets import ensure_pepper, new_key, read_secret
from fastgw.state.table import open_table

SHOWN = 8


class KeyStoreError(RuntimeError):
    """A key that is there already, or is not there, or a file that cannot be read; the message says which."""


class KeyStore:
    """The keys of one data directory. Changes are whole or not at all; a running node takes them up by itself."""

    def __init__(self, data_dir: Path | str) -> None:
        self.directory = Path(data_dir)
        self.path = self.directory / STORED_KEYS

    def rows(self) -> list[StoredKey]:
        """All keys in the order of their creation. Raises KeyStoreError."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        try:
            return [msgspec.json.decode(line, type=StoredKey) for line in lines if line.strip()]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeyStoreError(f"{self.path}: {error}") from error

    def create(self, name: str, models: list[str] | None, limits: Limits, expires: str | None) -> str:
        """Add a key and return its secret, which is not kept. Raises KeyStoreError when it is no good or taken."""
        secret = new_key()
        pepper = bytes.fromhex(read_secret(ensure_pepper(self.directory)))
        row = StoredKey(
            name=name,
            hash=digest(secret.encode(), pepper).hex(),
            prefix=secret[:SHOWN],
            models=models,
            limits=limits,
            expires=expires,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        wrong = check_stored(row)
        if wrong:
            raise KeyStoreError("; ".join(wrong))
        with self._locked():
            rows = self.rows()
            if any(one.name == name for one in rows):
                raise KeyStoreError(f"there is a key called {name!r} already; take another name or revoke that one")
            self._write([*rows, row])
        return secret

    def revoke(self, name: str) -> None:
        """Block a key for good; its row stays, so that its name in records keeps its meaning. Raises KeyStoreError.

        The workers of a running node refuse it from this moment on, whatever plan they serve by.
        """
        with self._locked():
            rows = self.rows()
            found = next((row for row in rows if row.name == name), None)
            if found is None:
                raise KeyStoreError(f"there is no stored key called {name!r}; `fastgw keys list` shows all")
            self._write([msgspec.structs.replace(row, blocked=True) if row.name == name else row for row in rows])
            self._block(bytes.fromhex(found.hash))

    def _block(self, hashed: bytes) -> None:
        """Set the key's flag in the shared table, where there is one yet."""
        try:
            shared = open_table(self.directory, create=False)
        except (table.TableError, OSError):
            return  # no node has run here: the first one will read the row
        try:
            slot = shared.find(flag_id(hashed))
            if slot >= 0:
                shared.set_flag(slot, 1)
        finally:
            shared.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, rows: list[StoredKey]) -> None:
        draft = self.path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
