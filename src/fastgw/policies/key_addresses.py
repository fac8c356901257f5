"""From where a key may be used: known once it is known whose call it is."""

from fastgw._core import headers
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.plan import Plan
from fastgw.policies.base import Env, Policy
from fastgw.policies.edge import Networks, shown

KNOWN = 4096
"""So many different lists of networks are kept read."""


def build(plan: Plan, env: Env) -> Policy:
    """403 for a key that is used from elsewhere than its `allowed_ips` say. Nothing where no key has any."""
    if not plan.edge.keyed:
        return Policy()
    known: dict[tuple[str, ...], Networks] = {}

    def networks_of(texts: tuple[str, ...]) -> Networks:
        found = known.get(texts)
        if found is None:
            if len(known) >= KNOWN:
                known.clear()
            found = known[texts] = Networks(texts)
        return found

    def head(call: Call, scan: headers.Scan) -> None:
        key, address = call.key, call.exchange.peer
        if key.allowed_ips and address not in networks_of(key.allowed_ips):
            raise GatewayError("address_not_allowed", f"The key {key.name!r} may not be used from {shown(address)}.")

    return Policy(head=head)
