"""AWS: signatures recomputed by an implementation of the page, keys from every place that botocore looks at."""

import datetime
import json
import time

import botocore.auth
import pytest

from fastgw.plan.credentials import Aws
from fastgw.upstream.auth import aws
from fastgw.upstream.auth.base import AuthError, fetcher
from tests.support.endpoint import endpoint
from tests.support.sigv4 import given, lines, signature

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "session-token-planted-9Qz"
FIXED = Aws("us-east-1", "bedrock", KEY, SECRET)
HEAD = (
    b"POST /model/anthropic.claude-v2%3A1/converse HTTP/1.1\r\nhost: bedrock-runtime.us-east-1.amazonaws.com\r\n"
    b"accept-encoding: identity\r\ncontent-type: application/json\r\naccept: \r\nuser-agent: a  b\r\n"
    b"content-length: 2\r\n\r\n"
)


def test_the_checker_agrees_with_the_vector_of_the_page():
    head = (
        b"GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\r\nhost: iam.amazonaws.com\r\n"
        b"content-type: application/x-www-form-urlencoded; charset=utf-8\r\nx-amz-date: 20150830T123600Z\r\n"
        b"authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        b"SignedHeaders=content-type;host;x-amz-date, "
        b"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n\r\n"
    )
    assert signature(head, b"", SECRET) == given(head)[-1]
    assert signature(head, b"x", SECRET) != given(head)[-1]


@pytest.mark.parametrize("body", [b"{}", b"", '{"text":"\u00e9"}'.encode()])
@pytest.mark.parametrize("path", [b"/model/anthropic.claude-v2%3A1/converse", b"/a%2Fb/c?x=1&a=b%20c&empty", b"/"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_signature_is_what_the_page_says(body, path, token):
    credential = Aws("us-east-1", "bedrock", KEY, SECRET, token)
    head = HEAD.replace(b"/model/anthropic.claude-v2%3A1/converse", path)
    fresh = fetcher(credential)()
    signed = fresh.proof.sign(head, body)
    assert fresh.life is None
    assert signed.startswith(head[:-2])
    assert signed.find(b"\r\n\r\n") == len(signed) - 4
    assert given(signed)[-1] == signature(signed, body, SECRET)
    key, day, region, service, names, _ = given(signed)
    assert (key, region, service) == (KEY, "us-east-1", "bedrock")
    headers = lines(signed)[2]
    assert headers["x-amz-date"].startswith(day)
    assert headers.get("x-amz-security-token", "") == token
    assert set(names.split(";")) >= {"host", "content-type", "x-amz-date"} | (
        {"x-amz-security-token"} if token else set()
    )
    assert "accept" not in names.split(";"), "what proxies may touch is not signed"
    assert SECRET.encode() not in signed
    assert fresh.proof.secret == token.encode()


def test_a_request_without_body_or_content_type():
    head = b"GET /v1/files?limit=2&after=x%20y HTTP/1.1\r\nhost: h:8443\r\naccept-encoding: identity\r\n\r\n"
    signed = fetcher(FIXED)().proof.sign(head, b"")
    assert given(signed)[4:] == ("host;x-amz-date", signature(signed, b"", SECRET))


def test_every_request_is_signed_for_its_own_time(monkeypatch):
    proof = fetcher(FIXED)().proof
    heads = []
    for second in (1, 2):
        moment = datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda moment=moment: moment)
        heads.append(proof.sign(HEAD, b"{}"))
    assert [lines(head)[2]["x-amz-date"] for head in heads] == ["20260101T000001Z", "20260101T000002Z"]
    assert all(given(head)[-1] == signature(head, b"{}", SECRET) for head in heads)
    assert given(heads[0])[-1] != given(heads[1])[-1]


def key_of(credential):
    return given(fetcher(credential)().proof.sign(HEAD, b"{}"))[0]


def test_keys_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert key_of(Aws("us-east-1")) == "AKIDENV"


def test_keys_of_a_profile_and_of_a_file_that_changes(tmp_path, monkeypatch):
    file = tmp_path / "aws-credentials"
    text = "[default]\naws_access_key_id=AKIDDEFAULT\naws_secret_access_key=s\n[ai]\naws_access_key_id={}\n"
    file.write_text(text.format("AKIDPROFILE") + "aws_secret_access_key=s\n")
    assert key_of(Aws("us-east-1")) == "AKIDDEFAULT"
    fetch = fetcher(Aws("us-east-1", profile="ai"))
    assert given(fetch().proof.sign(HEAD, b"{}"))[0] == "AKIDPROFILE"
    file.write_text(text.format("AKIDROTATED") + "aws_secret_access_key=s\n")
    assert given(fetch().proof.sign(HEAD, b"{}"))[0] == "AKIDROTATED"
    with pytest.raises(AuthError, match="ProfileNotFound"):
        fetcher(Aws("us-east-1", profile="none"))()


def stamp(seconds):
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_web_identity_assumes_its_role(tmp_path, monkeypatch):
    (tmp_path / "web-token").write_text("the-platforms-token")
    answer = (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>"
        f"<SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>"
        f"<Expiration>{stamp(3600)}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>"
    )
    with endpoint(lambda asked: (200, answer.encode())) as at:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", at.url)
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/gateway")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "web-token"))
        fresh = fetcher(Aws("eu-central-1"))()
        signed = fresh.proof.sign(HEAD, b"{}")
        assert given(signed)[:4:2] == ("ASIAROLE", "eu-central-1")
        assert lines(signed)[2]["x-amz-security-token"] == TOKEN
        assert given(signed)[-1] == signature(signed, b"{}", SECRET)
        assert 3500 < fresh.life <= 3600
        assert at.asked[0].form["WebIdentityToken"] == "the-platforms-token"
        at.say(lambda asked: (403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"))
        with pytest.raises(AuthError, match="AccessDenied"):
            fetcher(Aws("eu-central-1"))()


def test_the_role_of_an_instance(monkeypatch):
    def serving(asked):
        if asked.method == "PUT":
            return 200, b"imds-token"
        assert asked.headers["x-aws-ec2-metadata-token"] == "imds-token"
        if asked.path.endswith("/security-credentials/"):
            return 200, b"gateway-role"
        assert asked.path.endswith("/gateway-role")
        now = stamp(-60)
        return 200, {
            "Code": "Success", "AccessKeyId": "ASIAIMDS", "SecretAccessKey": SECRET, "Token": TOKEN,
            "Expiration": stamp(21_600), "LastUpdated": now, "Type": "AWS-HMAC",
        }  # fmt: skip

    with endpoint(serving) as at:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.url)
        fresh = fetcher(Aws("us-east-1"))()
        assert given(fresh.proof.sign(HEAD, b"{}"))[0] == "ASIAIMDS"
        assert fresh.life is not None
        assert 21_000 < fresh.life <= 21_600


def test_nothing_anywhere():
    with pytest.raises(AuthError, match="no AWS credentials in the environment"):
        fetcher(Aws("us-east-1"))()


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(aws, "botocore", None)
    with pytest.raises(AuthError, match=r"pip install 'fastgw\[aws\]'"):
        fetcher(FIXED)


def test_keys_do_not_show_themselves():
    assert SECRET not in repr(FIXED)
    assert TOKEN not in repr(Aws("r", "s", KEY, SECRET, TOKEN))
    assert json.dumps(KEY).strip('"') in repr(FIXED)


def test_signing_is_cheap_enough_for_the_request_path():
    proof = fetcher(FIXED)().proof
    proof.sign(HEAD, b"{}")
    began = time.perf_counter()
    for _ in range(200):
        proof.sign(HEAD, b"x" * 4000)
    assert (time.perf_counter() - began) / 200 < 0.01
