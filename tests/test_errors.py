"""The catalogue of errors, against its page and against itself."""

import re
from pathlib import Path

import pytest

from fastgw.errors import KINDS, GatewayError, UpstreamError

DOC = Path(__file__).parents[1] / "docs" / "errors.md"
TYPES = {"insufficient_quota", "invalid_request_error", "permission_error", "rate_limit_error", "api_error"}


def test_the_page_lists_every_kind_as_it_is():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \| `(\w+)` \| \S", DOC.read_text(), re.M)
    assert rows == [(name, str(kind.status), kind.type, kind.code) for name, kind in KINDS.items()]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_sound(name):
    kind = KINDS[name]
    assert 400 <= kind.status <= 599
    assert kind.type in TYPES
    assert re.fullmatch(r"[a-z_]+", kind.code)
    # What a provider said of its own limits is the one 4xx that is not the caller's doing.
    assert (kind.status < 500) == (kind.source == "client" or name == "upstream_rate_limited")
    assert not (kind.retryable and kind.source == "client")


def test_an_error_carries_its_row():
    error = GatewayError("rate_limit_exceeded", "too many", param="model", retry_after=1.5)
    assert (error.status, error.row.code) == (429, "rate_limit_exceeded")
    assert (error.message, error.param, error.retry_after) == ("too many", "model", 1.5)
    assert error.args == ("rate_limit_exceeded", "too many")


def test_an_upstream_error_is_one_of_ours():
    error = UpstreamError("upstream_timeout", "late", reason="timeout", sent=True)
    assert isinstance(error, GatewayError)
    assert (error.status, error.reason, error.sent, error.retry_after) == (504, "timeout", True, None)


def test_an_unknown_kind_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        GatewayError("no_such_kind", "x")
