"""runctl's instance profile is made once, whole, and by whoever is first."""

from __future__ import annotations

import json

import pytest

from runctl.core import tags as tag
from runctl.core.errors import NotFound, PermissionDenied
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.machine_role import ProfileState, profile_state
from runctl.providers.aws.iam.roles import (
    DEFAULT_PROFILE,
    HAND_OVER_POLICY,
    REACH_POLICY,
    STORE_POLICY,
    ensure_default_profile,
    ensure_store_profile,
    plan_profile,
    store_profile,
)
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.aws_fixtures import Refuse


@pytest.fixture
def attached(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """An account without the profile. AWS's own policies are not in moto, so attaching one is only watched."""
    session.iam.remove_role_from_instance_profile(
        InstanceProfileName=DEFAULT_PROFILE, RoleName=DEFAULT_PROFILE
    )
    session.iam.delete_instance_profile(InstanceProfileName=DEFAULT_PROFILE)
    session.iam.delete_role(RoleName=DEFAULT_PROFILE)
    calls: list[dict[str, str]] = []
    monkeypatch.setattr(session.iam, "put_role_policy", lambda **call: calls.append(call))
    return calls


def test_role_and_profile_are_made_tagged_and_joined(
    session: AwsSession, clock: ManualClock, progress: RecordedProgress, attached: list[dict[str, str]]
) -> None:
    ensure_default_profile(session, clock, progress)

    profile = session.iam.get_instance_profile(InstanceProfileName=DEFAULT_PROFILE)["InstanceProfile"]
    role = session.iam.get_role(RoleName=DEFAULT_PROFILE)["Role"]
    assert [r["RoleName"] for r in profile["Roles"]] == [DEFAULT_PROFILE]
    assert tag.is_ours(tags_of(role["Tags"]))  # type: ignore[arg-type]
    assert "ec2.amazonaws.com" in str(role["AssumeRolePolicyDocument"])
    assert {policy["RoleName"] for policy in attached} == {DEFAULT_PROFILE}
    reach, hand_over = (policy["PolicyDocument"] for policy in attached)
    assert "ssm:UpdateInstanceInformation" in reach
    assert "GetParameter" not in reach
    assert "*:" not in reach
    assert "ec2:DetachVolume" in hand_over
    assert "aws:ResourceTag/runctl:managed" in hand_over


def test_a_machine_that_writes_to_a_store_has_a_role_for_just_that(
    session: AwsSession, clock: ManualClock, progress: RecordedProgress, attached: list[dict[str, str]]
) -> None:
    session.s3.create_bucket(Bucket="mine")
    writes = ("s3://mine/runs",)
    plan = plan_profile(session, None, ssh_works=False, writes=writes)
    assert plan.name == store_profile(writes)
    assert "s3://mine/runs" in str(plan.will_create)

    ensure_store_profile(session, plan.name, writes, clock, progress)
    ensure_store_profile(session, plan.name, writes, clock, progress)

    assert [policy["PolicyName"] for policy in attached] == [REACH_POLICY, HAND_OVER_POLICY, STORE_POLICY]
    granted = json.loads(attached[-1]["PolicyDocument"])["Statement"]
    assert granted[0]["Resource"] == "arn:aws:s3:::mine/runs/*"
    assert "s3:PutObject" in granted[0]["Action"]
    assert plan_profile(session, None, ssh_works=False, writes=writes).will_create is None
    with pytest.raises(NotFound, match="there is no bucket nowhere-at-all"):
        plan_profile(session, "own-profile", ssh_works=False, writes=("s3://nowhere-at-all",))


def test_doing_it_twice_is_fine(
    session: AwsSession, clock: ManualClock, progress: RecordedProgress, attached: list[dict[str, str]]
) -> None:
    ensure_default_profile(session, clock, progress)
    ensure_default_profile(session, clock, progress)

    assert profile_state(session, DEFAULT_PROFILE) is ProfileState.READY
    assert [call["PolicyName"] for call in attached if call["PolicyName"] != HAND_OVER_POLICY] == [
        REACH_POLICY
    ]


def test_a_creation_that_was_cut_short_is_finished(
    session: AwsSession, clock: ManualClock, progress: RecordedProgress, attached: list[dict[str, str]]
) -> None:
    session.iam.create_role(RoleName=DEFAULT_PROFILE, AssumeRolePolicyDocument="{}")
    session.iam.create_instance_profile(InstanceProfileName=DEFAULT_PROFILE)
    assert profile_state(session, DEFAULT_PROFILE) is ProfileState.INCOMPLETE

    ensure_default_profile(session, clock, progress)

    assert profile_state(session, DEFAULT_PROFILE) is ProfileState.READY


@pytest.mark.parametrize("may", [True, False])
def test_a_role_of_an_earlier_version_is_let_detach_volumes_where_the_account_may(
    session: AwsSession, clock: ManualClock, progress: RecordedProgress, refuse: Refuse, may: bool
) -> None:
    iam = session.iam
    for name in iam.list_role_policies(RoleName=DEFAULT_PROFILE)["PolicyNames"]:
        iam.delete_role_policy(RoleName=DEFAULT_PROFILE, PolicyName=name)
    if not may:
        refuse(iam, "PutRolePolicy", "AccessDenied", "not authorized to perform: iam:PutRolePolicy")

    ensure_default_profile(session, clock, progress)

    expected = [HAND_OVER_POLICY] if may else []
    assert iam.list_role_policies(RoleName=DEFAULT_PROFILE)["PolicyNames"] == expected


def test_an_account_that_may_not_is_told_so(
    session: AwsSession,
    clock: ManualClock,
    progress: RecordedProgress,
    attached: list[dict[str, str]],
    refuse: Refuse,
) -> None:
    refuse(session.iam, "CreateRole", "AccessDenied", "not authorized to perform: iam:CreateRole")

    with pytest.raises(PermissionDenied, match="iam:CreateRole"):
        ensure_default_profile(session, clock, progress)


def test_a_profile_is_found_by_its_arn_too(session: AwsSession) -> None:
    arn = session.iam.get_instance_profile(InstanceProfileName=DEFAULT_PROFILE)["InstanceProfile"]["Arn"]

    assert profile_state(session, arn) is ProfileState.READY
