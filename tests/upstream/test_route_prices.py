"""What a call costs is known by its target, or, behind a wildcard, by the model that was asked for."""

from types import SimpleNamespace

from fastgw.call import Usage
from fastgw.gateway import relay
from fastgw.plan.plan import Model, Options, Origin, Plan, Price, Target, Upstream
from fastgw.telemetry.metrics import SeriesRegistry
from fastgw.upstream.route import Routes

LISTED, MINE = Price(input=1000, output=2000, version="catalogue-1"), Price(input=5000, version="config")


def routes(client):
    registry = SeriesRegistry(4096)
    exact = Model("mine", (Target("up/m", "up", "m", price=MINE), Target("up/n", "up", "n")))
    anyone = Model("up/*", (Target("up/*", "up", ""),))
    for model in (exact, anyone):
        for target in model.targets:
            registry.target(model.name, target.upstream, target.id)
    up = Upstream("up", "openai", Origin("http", "h", 80), {"openai_chat": "/chat"})
    prices = {"up": {"m": LISTED, "ft:m": MINE}}
    return Routes(
        Plan(1, b"", {"up": up}, {"mine": exact}, {"up": anyone}, (), (), Options(), registry.series, prices), client
    )


def cost(routes, name, at=0):
    route, upstream_model = routes.find(name)
    call = SimpleNamespace(target=route.ways[at], upstream_model=upstream_model)
    return relay.price_of(call, Usage(input=2, output=3))


def test_behind_a_wildcard_by_the_models_name(client):
    found = routes(client)
    assert cost(found, "up/m") == 2 + 6
    assert cost(found, "up/m-2026-01-31") == 2 + 6
    assert cost(found, "up/ft:m:acme::x") == 10
    assert cost(found, "up/unheard-of") is None


def test_a_target_of_the_config_by_its_own_price_alone(client):
    found = routes(client)
    assert cost(found, "mine") == 10
    assert cost(found, "mine", at=1) is None


def test_the_price_says_which_list_it_is_from(client):
    route, model = routes(client).find("up/m")
    assert route.ways[0].price_for(model).version == "catalogue-1"
    assert routes(client).find("mine")[0].ways[0].price_for("").version == "config"
