"""The doctor looks at everything and names the exact fix."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.interface import Check, DoctorStatus
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse, context_of


@pytest.fixture(autouse=True)
def systems_manager(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto does not know DescribeInstanceInformation."""
    answer: dict[str, Any] = {"InstanceInformationList": []}
    monkeypatch.setattr(session.ssm, "describe_instance_information", lambda **_: answer)


def check(provider: AwsProvider, name: str) -> Check:
    return next(check for check in provider.doctor() if check.name == name)


def test_in_a_working_account_nothing_fails(provider: AwsProvider) -> None:
    assert [c for c in provider.doctor() if c.status is DoctorStatus.FAILED] == []


def test_who_and_where_we_are_is_said(provider: AwsProvider) -> None:
    assert "arn:aws:" in check(provider, "aws: credentials").detail
    assert check(provider, "aws: region").detail == "us-east-1"


def test_a_right_that_is_missing_is_named(provider: AwsProvider, session: AwsSession, refuse: Refuse) -> None:
    refuse(session.ec2, "RunInstances", "UnauthorizedOperation", "You are not authorized")

    launching = check(provider, "aws: launching")

    assert launching.status is DoctorStatus.FAILED
    assert "RunInstances" in launching.detail
    assert launching.fix
    assert check(provider, "aws: volumes").status is DoctorStatus.OK


def test_nothing_is_launched_or_created(provider: AwsProvider, session: AwsSession) -> None:
    provider.doctor()

    assert provider.instances(everyone=True, include_ended=True) == ()
    assert provider.volumes.list(everyone=True) == ()


def test_a_region_without_a_default_vpc_has_a_fix(provider: AwsProvider, session: AwsSession) -> None:
    for subnet in session.ec2.describe_subnets()["Subnets"]:
        session.ec2.delete_subnet(SubnetId=subnet["SubnetId"])

    found = check(provider, "aws: network")

    assert found.status is DoctorStatus.FAILED
    assert "create-default-vpc" in found.fix


def test_without_the_plug_in_a_terminal_needs_an_open_port(
    provider: AwsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    assert check(provider, "aws: session manager plug-in").status is DoctorStatus.WARNING
    assert "openssh-client" in check(provider, "aws: ssh").fix


def test_a_configured_profile_that_does_not_exist_fails(
    session: AwsSession, clock: ManualClock, tmp_path: Any
) -> None:
    provider = AwsProvider(context_of(session, clock, tmp_path, instance_profile="no-such"))

    assert check(provider, "aws: instance profile").status is DoctorStatus.FAILED


def test_without_credentials_the_rest_is_skipped(
    context: AwsContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    lost = AwsProvider(
        context_of(AwsSession(region="us-east-1", profile=None), context.clock, context.state_directory)
    )

    checks = {c.name: c for c in lost.doctor()}

    assert checks["aws: credentials"].status is DoctorStatus.FAILED
    assert "aws configure" in checks["aws: credentials"].fix
    assert checks["aws: permissions"].status is DoctorStatus.SKIPPED


def test_without_a_region_it_says_how_to_set_one(context: AwsContext) -> None:
    lost = AwsProvider(
        context_of(AwsSession(region=None, profile=None), context.clock, context.state_directory)
    )

    assert "--region" in check(lost, "aws: region").fix
