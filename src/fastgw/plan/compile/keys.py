"""Keys: of the config and of the key files, their names, secrets and what they may use."""

import re
from datetime import UTC, datetime

from fastgw._core import table
from fastgw.plan import config as written
from fastgw.plan.compile.context import Context
from fastgw.plan.compile.edge import networks
from fastgw.plan.compile.limits import rules
from fastgw.plan.compile.names import Names
from fastgw.plan.keyring import HeldKeys
from fastgw.plan.plan import Key
from fastgw.policies.keys import digest, flag_id

FLAGS = bytes([table.FLAGS])
MIN_SECRET, MAX_SECRET = 8, 512
HASH = re.compile(r"[0-9A-Fa-f]{64}")
SECRET = re.compile(rf"[!-~]{{{MIN_SECRET},{MAX_SECRET}}}")


def keys(context: Context, names: Names) -> HeldKeys:
    """All keys; errors are noted with the place each came from."""
    compiled: list[Key] = []
    places: dict[str, str] = {}
    digests: set[bytes] = set()
    for index, one in enumerate(context.config.keys):
        path = f"keys[{index}]"
        if not SECRET.fullmatch(one.secret):
            context.errors.append(
                f"{path}.secret: must be {MIN_SECRET} to {MAX_SECRET} ASCII characters without spaces"
            )
        compiled.append(_key(context, path, one, digest(one.secret.encode(), context.pepper), names))
    for path, row in context.loaded.stored:
        compiled.append(_key(context, path, row, stored_digest(context, path, row), names))
    for place, key in zip(
        (*(f"keys[{i}]" for i in range(len(context.config.keys))), *(p for p, _ in context.loaded.stored)),
        compiled,
        strict=True,
    ):
        if key.name in places:
            context.errors.append(f"{place}.name: {key.name!r} is already the name of {places[key.name]}")
        elif key.digest and key.digest in digests:
            context.errors.append(f"{place}: has the same secret as another key")
        places[key.name] = place
        digests.add(key.digest)
    return HeldKeys(compiled)


def stored_digest(context: Context, path: str, row: written.StoredKey) -> bytes:
    if not HASH.fullmatch(row.hash):
        context.errors.append(f"{path}.hash: must be 64 hexadecimal digits")
        return b""
    return bytes.fromhex(row.hash)


def _key(context: Context, path: str, one: written.Key | written.StoredKey, hashed: bytes, names: Names) -> Key:
    context.check_name(f"{path}.name", one.name)
    # A stored key may name a model that the config has since lost: it opens nothing, and must not stand in the way of
    # every later config.
    strict = isinstance(one, written.Key)
    exact, patterns = access(one.models)
    if strict and exact is not None:
        check_access(context, f"{path}.models", exact - one.aliases.keys(), names)
    expires = None
    if one.expires is not None:
        expires = context.attempt(f"{path}.expires", epoch, one.expires, default=0.0)
    return Key(
        name=one.name,
        digest=hashed,
        models=exact,
        patterns=patterns,
        rules=rules(context, "key", one.name, one.limits, f"{path}.limits"),
        expires=expires,
        blocked=one.blocked,
        pass_through=one.pass_through,
        flag=-1 if strict else context.slots(path, flag_id(hashed), FLAGS)[0],
        prefix=one.prefix if isinstance(one, written.StoredKey) else "",
        aliases=names.aliases(context, f"{path}.aliases", one.aliases, strict=strict),
        default_model=names.default(context, f"{path}.default_model", one.default_model, one.aliases, strict=strict),
        allowed_ips=networks(context, f"{path}.allowed_ips", one.allowed_ips),
    )


def access(names: list[str] | None) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    if names is None or "*" in names:
        return None, ()
    patterns = tuple(name[:-1] for name in names if name.endswith("*"))
    return frozenset(name for name in names if not name.endswith("*")), patterns


def check_access(context: Context, path: str, exact: frozenset[str], names: Names) -> None:
    # A name below a wildcard (openai/gpt-4o) stands in no list of models.
    for name in sorted(exact - names.known):
        if not names.serves(name):
            context.errors.append(f"{path}: unknown model {name!r}; known: {', '.join(sorted(names.known)) or 'none'}")


def epoch(text: str) -> float:
    """An ISO 8601 time as seconds since the epoch; a time without a zone is UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an ISO 8601 time like 2027-01-31T00:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
