"""What ``doctor`` says of the clock, the quotas, the role and the bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runctl.providers.abilities.account import SetupRequest
from runctl.providers.aws.account.checks import bucket_check, compare_clocks, profile_check, quota_check
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import DoctorStatus

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [
        (0, DoctorStatus.OK, "0 s from"),
        (-30, DoctorStatus.OK, "30 s from"),
        (31, DoctorStatus.WARNING, "31 s ahead of"),
        (-299, DoctorStatus.WARNING, "299 s behind"),
        (300, DoctorStatus.FAILED, "300 s ahead of"),
    ],
)
def test_a_clock_that_is_off_is_set(seconds: int, status: DoctorStatus, said: str) -> None:
    here = NOW + timedelta(seconds=seconds)
    linux, mac = compare_clocks(here, NOW, "linux"), compare_clocks(here, NOW, "darwin")

    assert (linux.status, said in linux.detail) == (status, True)
    good = status is DoctorStatus.OK
    assert (linux.fix, mac.fix) == (
        ("", "") if good else ("sudo timedatectl set-ntp true", "sudo sntp -sS time.apple.com")
    )


@pytest.mark.parametrize(
    ("vcpus", "status"), [(None, DoctorStatus.SKIPPED), (0, DoctorStatus.FAILED), (64, DoctorStatus.OK)]
)
def test_a_quota_that_is_too_small_is_asked_to_be_raised(
    context: AwsContext,
    session: AwsSession,
    monkeypatch: pytest.MonkeyPatch,
    vcpus: int | None,
    status: DoctorStatus,
) -> None:
    def answer(**_: Any) -> dict[str, Any]:
        if vcpus is None:
            raise PermissionError("servicequotas:GetServiceQuota")
        return {"Quota": {"Value": float(vcpus)}}

    monkeypatch.setattr(session.quotas, "get_service_quota", answer)

    check = quota_check(context)

    assert check.status is status
    if status is DoctorStatus.FAILED:
        assert check.fix.startswith("aws service-quotas request-service-quota-increase --service-code ec2 ")
        assert "--desired-value" in check.fix


def test_setup_completes_a_role_that_lacks_something_and_the_bucket(
    provider: AwsProvider, context: AwsContext
) -> None:
    assert "first launch creates it" in profile_check(context).detail
    assert "runctl aws setup" in bucket_check(context).detail

    provider.renting.create(provider.renting.plan(InstanceRequest()))
    incomplete = profile_check(context)
    assert (incomplete.status, incomplete.fix) == (DoctorStatus.WARNING, "runctl aws setup")

    provider.account.create(provider.account.plan(SetupRequest()))
    assert profile_check(context).status is DoctorStatus.OK
    assert bucket_check(context).detail == "runctl-123456789012-us-east-1"
