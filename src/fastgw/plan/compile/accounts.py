"""What is kept at vendors, and which provider a path about it goes to: files and the like where the operator has
switched them on, responses wherever a provider keeps them.
"""

from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Model, Retry, Target, Upstream
from fastgw.providers.surfaces import FAMILIES, SURFACES, Surface

ONCE = Retry(1)


def accounts(context: Context, upstreams: dict[str, Upstream]) -> dict[str, Model]:
    """By `interface/family` (openai/files) the one provider that serves it; by `responses/provider` each that keeps
    responses. What a path asks for there is no model, so that its name is one that no model can have.
    """
    found: dict[str, Model] = {}
    for name, one in context.config.providers.items():
        path = f"providers.{name}.pass_through"
        surface = SURFACES.get(one.kind, Surface())
        for index, family in enumerate(dict.fromkeys(one.pass_through)):
            known = FAMILIES.get(surface.family, ()) if surface.keeps else ()
            if family not in known:
                offered = f"known are {', '.join(known)}" if known else f"{one.kind} has nothing to pass on"
                context.errors.append(f"{path}[{index}]: unknown {family!r}; {offered}")
                continue
            place = f"{surface.family}/{family}"
            if place in found:
                other = found[place].targets[0].upstream
                context.errors.append(f"{path}: {other!r} has {family!r} already; let one of the two have it")
                continue
            found[place] = _account(name, family)
    keepers = (name for name, one in upstreams.items() if "openai_responses" in one.paths)
    return found | {f"responses/{name}": _account(name, "responses") for name in keepers}


def _account(provider: str, family: str) -> Model:
    name = f"({family})"
    return Model(name, (Target(f"{provider}/{name}", provider, name),), retry=ONCE)
