"""The parts of a vendor's address that depend on the account: `{project}`, `{location}` and `{region}`."""

import re
from collections.abc import Iterable, Mapping

from fastgw.plan import config as written
from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Quirks
from fastgw.providers.base import Provider

FIELD = re.compile(r"\{(project|location|region)\}")
VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
MEANS = {
    "project": "the account's project",
    "location": "where it is served, such as `us-central1`",
    "region": "where it is served",
}


def places(context: Context, path: str, one: written.Provider, kind: Provider) -> dict[str, str]:
    """The value of every part that this provider needs; for one it lacks an error and a stand-in."""
    texts = (base_url(one, kind), *kind.speaks.values(), *kind.stream_speaks.values(), *kind.set_fields.values())
    found = {}
    for name in _named(texts):
        value = _value(context, one, kind, name)
        if not value:
            hint = " (or set AWS_REGION)" if (name, kind.auth) == ("region", "aws") else ""
            context.errors.append(f"{path}.{name}: missing; {one.kind} needs it: {MEANS[name]}{hint}")
        elif not VALUE.fullmatch(value):
            context.errors.append(f"{path}.{name}: must be 1 to 128 letters, digits, dots, colons and hyphens")
        found[name] = value if VALUE.fullmatch(value) else "x"
    return found


def base_url(one: written.Provider, kind: Provider) -> str:
    """The address as it is written: the operator's, else the kind's for this location."""
    return one.base_url or kind.base_urls.get(one.location) or kind.base_url


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its parts put in."""
    return FIELD.sub(lambda match: values[match[1]], text)


def own_fields(kind: Provider, quirks: Quirks, values: Mapping[str, str]) -> Quirks:
    """The operator's quirks, and what the kind always sets as far as it depends on the account."""
    fields = {name: fill(raw, values) for name, raw in kind.set_fields.items() if FIELD.search(raw)}
    if not fields:
        return quirks
    return Quirks(quirks.drop, quirks.rename, quirks.clamp, quirks.default, fields | quirks.set, quirks.features)


def _named(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for text in texts for name in FIELD.findall(text)))


def _value(context: Context, one: written.Provider, kind: Provider, name: str) -> str:
    if name != "region" or one.region or kind.auth != "aws":
        return str(getattr(one, name))
    own = one.auth.region if isinstance(one.auth, written.AwsAuth) else ""
    environ = context.loaded.environ
    return own or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
