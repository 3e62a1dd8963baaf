"""Who we are and where: what is missing is said at once, with the fix."""

from __future__ import annotations

import socket
import time

import pytest

from runctl.core.errors import ConfigError, CredentialsError, Unreachable, Unsupported
from runctl.providers.aws.calls.session import AwsSession, Identity


def test_without_a_region_the_fix_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        AwsSession(region=None, profile=None).region  # noqa: B018

    assert "--region" in caught.value.hint


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "eu-west-1")

    assert AwsSession(region=None, profile=None).region == "eu-west-1"


def test_a_region_that_was_asked_for_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    assert AwsSession(region="us-west-2", profile=None).region == "us-west-2"


def test_an_unknown_profile_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no-such-profile"):
        AwsSession(region="us-east-1", profile="no-such-profile").ec2  # noqa: B018


def test_without_credentials_the_ways_to_get_them_are_named() -> None:
    with pytest.raises(CredentialsError) as caught:
        AwsSession(region="us-east-1", profile=None).identity  # noqa: B018

    assert "aws configure" in caught.value.hint
    assert "runctl sandbox start" in caught.value.hint


def test_a_sandbox_that_is_not_running_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        started = time.monotonic()

        with pytest.raises(Unreachable) as caught:
            AwsSession(region="us-east-1", profile=None).identity  # noqa: B018

    assert "runctl sandbox start" in caught.value.hint
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("arn", "name", "partition"),
    [
        ("arn:aws:iam::123456789012:user/ada", "ada", "aws"),
        ("arn:aws:iam::123456789012:user/team/ada", "ada", "aws"),
        ("arn:aws:sts::123456789012:assumed-role/Admin/ada@example.com", "ada@example.com", "aws"),
        ("arn:aws-cn:iam::123456789012:root", "root", "aws-cn"),
    ],
)
def test_the_owner_is_the_user_or_the_session(arn: str, name: str, partition: str) -> None:
    identity = Identity("123456789012", arn)

    assert (identity.name, identity.partition) == (name, partition)


@pytest.mark.parametrize(
    ("region", "bill", "budgets"),
    [
        ("eu-west-1", "https://ce.us-east-1.amazonaws.com", "https://budgets.amazonaws.com"),
        (
            "cn-north-1",
            "https://ce.cn-northwest-1.amazonaws.com.cn",
            "https://budgets.amazonaws.com.cn",
        ),
    ],
)
def test_what_is_once_for_an_account_is_asked_in_its_own_partition(
    monkeypatch: pytest.MonkeyPatch, region: str, bill: str, budgets: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    session = AwsSession(region=region, profile=None)
    assert session.cost_explorer.meta.endpoint_url == bill
    assert session.budgets.meta.endpoint_url == budgets


@pytest.mark.parametrize("service", ["cost_explorer", "budgets"])
def test_a_partition_without_a_service_is_said(service: str) -> None:
    with pytest.raises(Unsupported, match="in us-gov-west-1, whose partition is aws-us-gov"):
        getattr(AwsSession(region="us-gov-west-1", profile=None), service)
