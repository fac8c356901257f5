"""The order in which policies run is part of what they promise."""

from fastgw.policies import ORDER, Policy, edge, key_addresses, keys, models
from tests.policies.support import env_of, plan_of


def test_nobody_learns_of_models_or_spends_limits_before_being_known():
    assert (edge, keys, key_addresses, models) == ORDER


def test_every_policy_builds_for_an_empty_plan():
    plan = plan_of()
    built = [module.build(plan, env_of(plan)) for module in ORDER]
    assert all(isinstance(policy, Policy) for policy in built)
    assert [policy.head is not None for policy in built] == [False, True, False, False]
    assert [policy.body is not None for policy in built] == [False, False, False, True]
