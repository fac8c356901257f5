"""IBM Cloud: the form that IAM's page has."""

import pytest

from fastgw.plan.credentials import Ibm
from fastgw.upstream.auth.base import AuthError, fetcher
from tests.support.endpoint import endpoint, refuse, token

KEY = "ibm-planted-key-2Wc"


def test_a_key_is_exchanged_for_a_token():
    with endpoint(token("iam", 3600)) as at:
        fresh = fetcher(Ibm(KEY, f"{at.url}/identity/token"))()
        assert (fresh.proof.secret, fresh.life) == (b"iam", 3600.0)
        (asked,) = at.asked
        assert (asked.method, asked.path) == ("POST", "/identity/token")
        assert asked.form == {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": KEY}
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_refusal_tells_its_code_alone():
    answer = refuse(400, errorCode="BXNIM0415E", errorMessage=f"{KEY} could not be found.")
    with endpoint(answer) as at, pytest.raises(AuthError, match=r"answered 400 BXNIM0415E$"):
        fetcher(Ibm(KEY, at.url))()


def test_a_service_that_is_not_there():
    with pytest.raises(AuthError, match="could not be asked"):
        fetcher(Ibm(KEY, "http://127.0.0.1:1/identity/token"))()
