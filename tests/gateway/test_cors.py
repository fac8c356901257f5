"""What browsers are told, without a browser."""

import pytest

from fastgw.gateway.cors import CrossOrigin
from fastgw.plan.edge import Cors

PAGE = (b"origin", b"https://a.example")
WANTS = (b"access-control-request-method", b"POST")
ORIGIN, ALLOWED = b"access-control-allow-origin", b"access-control-allow-headers"


class Done:
    """What granian gives back where there is nothing to wait for."""

    def __await__(self):
        return iter(())


class Proto:
    def __init__(self):
        self.sent = []
        self.receive = None

    def send(self, event):
        self.sent.append(event)
        return Done()


async def app(scope, proto):
    await proto.send({"type": "http.response.start", "status": 201, "headers": [(b"x", b"1")]})
    await proto.send({"type": "http.response.body", "body": b"b", "more_body": False})


async def told(cors, *headers, method="OPTIONS"):
    """Status and headers of the answer."""
    proto = Proto()
    await CrossOrigin(app, cors)({"method": method, "headers": list(headers)}, proto)
    assert [event["type"] for event in proto.sent] == ["http.response.start", "http.response.body"]
    return proto.sent[0]["status"], dict(proto.sent[0]["headers"])


def cors(*origins, **more):
    return Cors(frozenset(origins), **more)


async def test_a_preflight_never_reaches_the_application():
    status, headers = await told(cors("https://a.example"), PAGE, WANTS)
    assert status == 204
    assert headers[ORIGIN] == PAGE[1]
    assert headers[b"vary"] == b"origin"
    assert ALLOWED not in headers


async def test_what_is_no_preflight_reaches_it():
    for headers in ((PAGE,), (WANTS,), ()):
        assert (await told(cors("*"), *headers))[0] == 201
    assert (await told(cors("*"), PAGE, WANTS, method="POST"))[0] == 201


@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
async def test_other_pages_are_told_nothing(method):
    _, headers = await told(cors("https://b.example"), PAGE, WANTS, method=method)
    assert not [name for name in headers if name.startswith(b"access-control-")]
    assert headers[b"vary"] == b"origin", "a cache must not show this answer to the page that may read it"


async def test_everybody_is_no_one_in_particular():
    _, headers = await told(cors("*"), PAGE, method="POST")
    assert headers[ORIGIN] == b"*"
    assert b"vary" not in headers
    assert b"access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (b"authorization, content-type", b"authorization, content-type"),
        (b"x\r\nset-cookie: a", None),
        (b"a b", None),
        (b"a" * 5000, None),
    ],
)
async def test_asked_headers_are_names_or_are_not_repeated(asked, expected):
    _, headers = await told(cors("*"), PAGE, WANTS, (b"access-control-request-headers", asked))
    assert headers.get(ALLOWED) == expected


async def test_listed_headers_stand_in_place_of_those_asked_for():
    listed = cors("*", headers=("authorization", "x-team"), max_age=5)
    _, headers = await told(listed, PAGE, WANTS, (b"access-control-request-headers", b"other"))
    assert (headers[ALLOWED], headers[b"access-control-max-age"]) == (b"authorization, x-team", b"5")
