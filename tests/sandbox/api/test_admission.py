"""Who may speak to a sandbox: those who have the keys of this start, and no page in a browser."""

from __future__ import annotations

import http.client
import stat
import subprocess
import sys
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from runctl.sandbox.api import admission
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.record import TOKEN_HEADER, Keys
from tests.sandbox.account import Account

BODY = "Action=DescribeInstances&Version=2016-11-15"


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({"HTTP_HOST": "127.0.0.1:4566"}, True),
        ({"HTTP_HOST": "127.0.0.1"}, True),
        ({"HTTP_HOST": "LOCALHOST:1"}, True),
        ({"HTTP_HOST": "10.213.0.1:4566"}, True),
        ({}, False),
        ({"HTTP_HOST": ""}, False),
        ({"HTTP_HOST": "rebound.evil.example"}, False),
        ({"HTTP_HOST": "127.0.0.1.evil.example:4566"}, False),
        ({"HTTP_HOST": "evil.example,127.0.0.1"}, False),
        ({"HTTP_HOST": "10.213.1.1"}, False),
        ({"HTTP_HOST": "127.0.0.1", "HTTP_ORIGIN": "https://evil.example"}, False),
        ({"HTTP_HOST": "127.0.0.1", "HTTP_ORIGIN": "null"}, False),
        ({"HTTP_HOST": "127.0.0.1", "HTTP_ORIGIN": "http://127.0.0.1:4566"}, False),
    ],
)
def test_only_programs_that_know_the_address_are_admitted(headers: dict[str, str], admitted: bool) -> None:
    assert (admission.refusal(headers, {*admission.LOOPBACK, "10.213.0.1"}) is None) is admitted


def test_no_two_starts_have_the_same_keys_and_none_are_shown_by_accident() -> None:
    first, second = Keys.new(), Keys.new()

    assert len({*vars(first).values(), *vars(second).values()}) == 2 * len(vars(first))
    assert not [value for value in vars(first).values() if value in repr(first)]


def ask(
    info: SandboxInfo, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, dict[str, str], str]:
    """One request with just these headers and the address's own ``Host``."""
    connection = http.client.HTTPConnection(urlsplit(info.endpoint_url).netloc, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def signed(info: SandboxInfo, key: str, secret: str) -> dict[str, str]:
    """The headers of a DescribeInstances that is signed with these keys."""
    request = AWSRequest(
        "POST",
        info.endpoint_url + "/",
        data=BODY,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    SigV4Auth(Credentials(key, secret), "ec2", info.region).add_auth(request)
    return dict(request.headers.items())


@pytest.mark.namespaces
def test_a_request_is_answered_with_the_keys_of_this_start_only(sandbox: SandboxInfo) -> None:
    keys = sandbox.keys

    def described(headers: dict[str, str]) -> int:
        return ask(sandbox, "POST", "/", BODY, **headers)[0]

    good = signed(sandbox, keys.access_key_id, keys.secret_access_key)
    assert described(good) == 200
    assert described(signed(sandbox, "anybody", "anything")) == 401
    assert described(signed(sandbox, "AKIASANDBOX000000000", "sandbox")) == 401
    assert described(signed(sandbox, Keys.new().access_key_id, keys.secret_access_key)) == 401
    assert described({"Content-Type": "application/x-www-form-urlencoded"}) == 403
    assert described({**good, "Host": "rebound.evil.example"}) == 403
    assert described({**good, "Origin": "https://evil.example"}) == 403


@pytest.mark.namespaces
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/bucket"),
        ("PUT", "/bucket"),
        ("POST", "/moto-api/reset"),
        ("GET", "/moto-api/data.json"),
    ],
)
def test_nothing_is_answered_without_keys(sandbox: SandboxInfo, method: str, path: str) -> None:
    assert ask(sandbox, method, path)[0] in {401, 403}


@pytest.mark.namespaces
def test_a_page_gets_no_permission_to_ask_across_sites(sandbox: SandboxInfo) -> None:
    status, headers, _ = ask(
        sandbox, "OPTIONS", "/", Origin="https://evil.example", Access_Control_Request_Method="POST"
    )

    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.namespaces
def test_the_sandbox_is_commanded_with_its_token_only(sandbox: SandboxInfo) -> None:
    token = sandbox.keys.control_token

    def command(**headers: str) -> int:
        return ask(sandbox, "POST", "/_sandbox/clear", "{}", **headers)[0]

    assert command() == 403
    assert command(Content_Type="text/plain") == 403
    assert command(**{TOKEN_HEADER: "guessed"}) == 403
    assert command(**{TOKEN_HEADER: token}) == 200
    assert command(**{TOKEN_HEADER: token, "Origin": "https://evil.example"}) == 403


@pytest.mark.namespaces
def test_the_keys_of_an_iam_user_are_good_until_they_are_deleted(account: Account) -> None:
    iam = account.client("iam")
    iam.create_user(UserName="somebody")
    try:
        key = iam.create_access_key(UserName="somebody")["AccessKey"]
        ec2 = boto3.Session(
            key["AccessKeyId"], key["SecretAccessKey"], region_name=account.info.region
        ).client("ec2", endpoint_url=account.info.endpoint_url)
        assert "Reservations" in ec2.describe_instances()

        iam.delete_access_key(UserName="somebody", AccessKeyId=key["AccessKeyId"])

        with pytest.raises(ec2.exceptions.ClientError, match="AuthFailure"):
            ec2.describe_instances()
    finally:
        iam.delete_user(UserName="somebody")


@pytest.mark.namespaces
def test_others_on_the_computer_read_nothing_of_a_sandbox(sandbox: SandboxInfo) -> None:
    """Everything that says how to get in, or holds what somebody stored, is the user's alone."""
    home = sandbox.home

    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    readable = [
        path
        for path in (home / "sandbox.json", home / "server.log", home / "volumes", home / "machines")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert readable == []


@pytest.mark.namespaces
def test_a_status_shows_no_key(in_sandbox: SandboxInfo) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "runctl", "sandbox", "status", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert in_sandbox.endpoint_url in shown
    assert not [secret for secret in vars(in_sandbox.keys).values() if secret in shown]
