"""Decoding what an operator wrote: every error at once, each with its path."""

from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

T = TypeVar("T")


class ConfigErrors(Exception):
    """Everything that is wrong with a config: `errors` are lines of `path: what is wrong and what to do`."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class Section(Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all parts of the config; `not_built` names fields that are designed but not served yet."""

    not_built: ClassVar[frozenset[str]] = frozenset()


def decode(value: Any, kind: type[T], path: str, errors: list[str]) -> T | None:
    """`value` as a `kind`; on failure every error below it is added to `errors`, each with its path."""
    found = len(errors)
    _explain(value, kind, path, errors)
    if len(errors) > found:
        return None
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        errors.append(_with_path(str(error), path))
        return None


def _explain(value: Any, kind: Any, path: str, errors: list[str]) -> None:
    """Add an error for each field of `value` that does not fit, by descending where msgspec stops at the first."""
    if isinstance(kind, type) and issubclass(kind, Section):
        if isinstance(value, kind):
            return
        _explain_section(value, kind, path, errors)
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, tuple) and isinstance(value, list):
        for index, item in enumerate(value):
            _explain(item, arguments[0], f"{path}[{index}]", errors)
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            _explain(item, arguments[1], f"{path}.{name}", errors)
    else:
        sections = [one for one in arguments if isinstance(one, type) and issubclass(one, Section)]
        if sections and value is not None:
            section = sections[0] if len(sections) == 1 else _choose(value, sections, path, errors)
            if section is not None:
                _explain(value, section, path, errors)
            return
        try:
            msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            errors.append(_with_path(str(error), path))


def _choose(value: Any, sections: list[type[Section]], path: str, errors: list[str]) -> type[Section] | None:
    """Which of several sections `value` says it is; None (and an error) when it is none of them."""
    if isinstance(value, Section):
        return type(value)
    if not isinstance(value, dict):
        errors.append(f"{path}: expected a mapping, got {type(value).__name__}")
        return None
    by_tag = {str(one.__struct_config__.tag): one for one in sections}
    field = str(sections[0].__struct_config__.tag_field)
    found = by_tag.get(str(value.get(field)))
    if found is None:
        problem = f"unknown {value[field]!r}" if field in value else "missing"
        errors.append(f"{path}.{field}: {problem}; known are {', '.join(by_tag)}")
    return found


def _explain_section(value: Any, kind: type[Section], path: str, errors: list[str]) -> None:
    if not isinstance(value, dict):
        errors.append(f"{path or '(file)'}: expected a mapping, got {type(value).__name__}")
        return
    hints = get_type_hints(kind)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    prefix = f"{path}." if path else ""
    for name in value:
        if name == kind.__struct_config__.tag_field:
            continue
        if name in kind.not_built:
            errors.append(f"{prefix}{name}: not built yet; remove it")
        elif name not in fields:
            errors.append(f"{prefix}{name}: unknown field; known are {', '.join(sorted(fields))}")
        else:
            _explain(value[name], hints[name], f"{prefix}{name}", errors)
    for name, field in fields.items():
        if field.required and name not in value:
            errors.append(f"{prefix}{name}: missing")


def _with_path(message: str, path: str) -> str:
    """Msgspec's `... - at `$.a[0]`` with the path of the part that was decoded put before it."""
    text, _, inner = message.partition(" - at `$")
    return f"{path}{inner.rstrip('`')}: {text}" if path or inner else f"(file): {text}"
