"""Names that calls may use for models: those of the config, what a wildcard takes, aliases, and what no name means.

An alias is looked up once: it names a model, never another alias. What a key says of its own comes before what the
file says for all, and may then also hide a model. How a call's name is resolved is told in docs/models.md.
"""

from collections.abc import Mapping

from fastgw.plan import config as written
from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Model

MAX_ALIASES = 10_000


class Names:
    """What can be asked for. `known` are models, wildcards (`openai/*`) and the aliases that hold for all keys."""

    def __init__(self, models: Mapping[str, Model], wildcards: Mapping[str, Model], aliases: Mapping[str, str]) -> None:
        self._models = models
        self._wildcards = wildcards
        self._aliases = aliases
        self.known = frozenset({*models, *(one.name for one in wildcards.values()), *aliases})

    def serves(self, name: str) -> bool:
        """Whether a call with this name finds a model without any alias."""
        if name in self._models:
            return True
        prefix, slash, rest = name.partition("/")
        return bool(rest) and prefix in self._wildcards if slash else "*" in self._wildcards

    def aliases(self, context: Context, path: str, own: Mapping[str, str], *, strict: bool) -> dict[str, str]:
        """A section's aliases, checked; `strict`: what they mean must be there."""
        if len(own) > MAX_ALIASES:
            context.errors.append(f"{path}: {len(own)} are too many; {MAX_ALIASES} at most")
            return {}
        for alias, meant in own.items():
            context.check_name(f"{path}.{alias}", alias)
            if strict and not self.serves(meant):
                context.errors.append(f"{path}.{alias}: {self._unknown(meant, {*own, *self._aliases})}")
        return dict(own)

    def default(self, context: Context, path: str, name: str | None, own: Mapping[str, str], *, strict: bool) -> str:
        """The model that is meant by no name, checked; an alias will do. Empty when there is none."""
        if not name:
            return ""
        if strict and not self.serves(name) and name not in own and name not in self._aliases:
            context.errors.append(f"{path}: {self._unknown(name, set())}")
        return name

    def _unknown(self, name: str, aliases: set[str]) -> str:
        if name in aliases:
            return f"{name!r} is an alias itself; name the model it stands for"
        return f"unknown model {name!r}; known: {', '.join(sorted(self.known)) or 'none'}"


def compiled(context: Context, models: Mapping[str, Model], wildcards: Mapping[str, Model]) -> Names:
    """The names of a whole config; top-level aliases that hide a model are noted as errors."""
    config: written.Config = context.config
    for alias in config.aliases:
        if alias in models:
            context.errors.append(f"aliases.{alias}: is a model already; give one of the two another name")
    return Names(models, wildcards, config.aliases)
