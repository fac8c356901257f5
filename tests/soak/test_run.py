"""A soak of ten seconds is part of every run of the tests; its parts are what they say."""

import random
from pathlib import Path

import pytest

from tests.faults.tongues import TONGUES, echo
from tests.soak import run, world
from tests.soak.measure import quantile, slope
from tests.support.faultproxy import Faults
from tests.support.rawclient import RawReply
from tests.support.scripted import RawRequest, Send


@pytest.mark.timeout(180)
async def test_ten_seconds_of_it(tmp_path: Path) -> None:
    result = await run.soak(tmp_path, 10 / 60, 7, health_s=3.0, kill_every=4.0)
    assert result["violations"] == 0, result["first_violations"]
    assert result["answers"]["200"] > 50
    assert result["answers"]["left"] > 5
    assert result["kills"] >= 1
    assert result["reloads"] >= 1
    assert len(result["faults"]) > 8


def test_slope_and_quantile() -> None:
    assert slope([(0, 5), (1, 7), (2, 9)]) == pytest.approx(2.0)
    assert slope([(3, 5)]) == slope([]) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert quantile([], 0.5) == 0.0


def request(label: str, *, stream: bool) -> RawRequest:
    head, _, body = TONGUES[0].ask("m", label, "k", stream=stream).partition(b"\r\n\r\n")
    return RawRequest(head + b"\r\n\r\n", body, 0.0)


def whole(raw: bytes, status: int = 200) -> RawReply:
    return RawReply(raw, "whole", status, {}, raw)


@pytest.mark.parametrize("tongue", TONGUES, ids=[tongue.name for tongue in TONGUES])
def test_an_answer_is_judged(tongue: world.Tongue) -> None:
    def problem(body: bytes, status: int = 200, *, stream: bool = False) -> str:
        return run._problem(tongue, "", stream, b"canary-1-1", whole(body, status))

    assert not problem(tongue.document("canary-1-1"))
    assert problem(tongue.document("something else"))
    assert problem(tongue.document("canary-1-1")[:-5])
    words = b"".join(tongue.events("canary-1-1"))
    assert not problem(words.replace(b"canary-1- 1", b"canary-1-1"), stream=True) or tongue.terminal in words
    broken = b"".join(event for event in tongue.events("canary-1-1") if tongue.terminal not in event)
    assert problem(broken, stream=True)
    assert not problem(broken + tongue.error_event(), stream=True)
    assert problem(b"{}", 502)
    assert problem(b"<html>", 502)
    assert problem(tongue.document("canary-1-1"), 201)
    assert "no answer" in problem(b'{"error":{"code":"internal_error"}}', 500)


def test_the_weather_is_the_same_for_a_seed_and_strikes_in_every_way() -> None:
    one, other = (world.Weather(random.Random(3)) for _ in range(2))
    faults = [one.proxy(n) for n in range(400)]
    assert faults == [other.proxy(n) for n in range(400)]
    assert Faults() in faults
    assert len(one.met) == 8
    for name, odd in world.ODD.items():
        for stream in (False, True):
            steps = odd(random.Random(5), request("canary-1-1", stream=stream), TONGUES[0])
            assert any(isinstance(step, Send) for step in steps), name
    one.burst = True
    (refused,) = one._well(request("canary-1-1", stream=False))
    assert isinstance(refused, Send)
    assert refused.data != echo(request("canary-1-1", stream=False))
