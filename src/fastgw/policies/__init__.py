"""What a call must pass before it is sent: one rule a file, compiled once a plan, run in `ORDER`.

A policy's `build(plan, env)` gives a `Policy`: `head` runs when the headers are known and before the body is read,
`body` once the model is. Either refuses by raising GatewayError; both are plain functions and never wait. `limits`
comes after them all and has more moments than these: see `Limiter`.
"""

from fastgw.policies import edge, key_addresses, keys, models
from fastgw.policies.base import Env, Policy

ORDER = (edge, keys, key_addresses, models)

__all__ = ["ORDER", "Env", "Policy"]
