"""Credentials that do not show themselves.

`Secret` wraps one that is handed about; structs that are read from a config or written to a plan file hold theirs as
plain text and veil it in their repr (`veiled`).
"""

import hmac
from typing import Any, NoReturn

from msgspec import Struct

MASK = "Secret(***)"


class Secret:
    """A credential. Printing, formatting, logging or pickling it never gives the value; ``reveal()`` does.

    Equality takes the same time whatever the first differing character is.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("a Secret wraps a str")
        self._value = value

    def reveal(self) -> str:
        """The value itself; call it where the credential is used and keep the result in no attribute."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_octets(self._value), _octets(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled; reveal() it where it is needed")


def _octets(value: str) -> bytes:
    # compare_digest refuses non-ASCII str, and the environment can hand over lone surrogates.
    return value.encode("utf-8", "surrogatepass")


def veiled(struct: Struct, *hidden: str) -> str:
    """A struct's repr in which the fields named `hidden` show only whether they are set."""
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    shown = (f"{name}={MASK if name in hidden and value else repr(value)}" for name, value in values)
    return f"{type(struct).__name__}({', '.join(shown)})"


def mask_hook(value: Any) -> Any:
    """``enc_hook`` for msgspec wherever people or other programs read the result: a Secret becomes ``Secret(***)``.

    Raises:
        NotImplementedError: for any other type msgspec does not know.
    """
    if isinstance(value, Secret):
        return MASK
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def reveal_hook(value: Any) -> Any:
    """``enc_hook`` for files only the gateway itself reads (mode 0600, the plan file): a Secret becomes its value.

    Raises:
        NotImplementedError: for any other type msgspec does not know.
    """
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def decode_hook(kind: type, value: Any) -> Any:
    """``dec_hook`` for msgspec: a string where the type says Secret becomes one.

    Raises:
        NotImplementedError: for any other type msgspec does not know.
        ValueError: when the value is not a string (msgspec adds the path; the value is not in the message).
    """
    if kind is not Secret:
        raise NotImplementedError(f"cannot decode {kind.__name__}")
    if not isinstance(value, str):
        raise ValueError("expected a string for a secret")
    return Secret(value)
