"""What browsers are told, without a browser."""

import pytest

from fastgw.gateway.cors import CrossOrigin
from fastgw.plan.edge import Cors

PAGE = (b"origin", b"https://a.example")
WANTS = (b"access-control-request-method", b"POST")


class Proto:
    def __init__(self):
        self.sent = []

    async def receive(self):
        raise AssertionError("a preflight has no body")

    def send(self, event):
        self.sent.append(event)
        return self._done()

    async def _done(self):
        pass


async def app(scope, proto):
    for event in ({"type": "http.response.start", "status": 201, "headers": [(b"x", b"1")]},
                  {"type": "http.response.body", "body": b"b", "more_body": False}):  # fmt: skip
        await proto.send(event)


async def told(cors, *headers, method="OPTIONS"):
    """Status and headers of the answer."""
    proto = Proto()
    given = CrossOrigin(app, cors)({"method": method, "headers": list(headers)}, proto)
    with pytest.warns(RuntimeWarning, match="never awaited") if method == "OPTIONS" and WANTS in headers else none():
        await given
    head = proto.sent[0]
    return head["status"], dict(head["headers"])


class none:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def cors(*origins, **more):
    return Cors(frozenset(origins), **more)
