"""What a call must pass before it is sent: one rule a file, compiled once a plan, run in `ORDER`.

A policy's `build(plan, env)` gives a `Policy`: `head` runs when the headers are known and before the body is read,
`body` once the model is. Either refuses by raising GatewayError; both are plain functions and never wait.
"""

from fastgw.policies import keys, limits, models
from fastgw.policies.base import Env, Policy

ORDER = (keys, models, limits)

__all__ = ["ORDER", "Env", "Policy"]
