"""What somebody who started without a config is told first: a call that works, and where the key is."""

import shlex
from pathlib import Path

from fastgw.plan.plan import Plan


def greeting(plan: Plan, address: str, key_file: Path) -> str:
    """Lines for standard output. The key itself is never printed."""
    file = shlex.quote(str(key_file))
    body = f'{{"model":"{_model(plan)}","messages":[{{"role":"user","content":"Hello"}}]}}'
    return "\n".join(
        (
            f"fastgw serves at {address}; the key is in {file}. Try:",
            "",
            f"  curl {address}/v1/chat/completions \\",
            f'    -H "Authorization: Bearer $(cat {file})" -H "Content-Type: application/json" \\',
            f"    -d '{body}'",
            "",
        )
    )


def _model(plan: Plan) -> str:
    """A name that this plan serves."""
    if plan.models:
        return next(iter(plan.models))
    return "openai/gpt-4o-mini" if "openai" in plan.wildcards else f"{next(iter(plan.wildcards))}/MODEL"
