"""What filling volumes needs of AWS, and plans of it, against moto."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runctl.agent.object_store import Source, policy
from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, RunctlError, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Market, Volume
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ebs.filling import EbsFilling, baselines
from runctl.providers.aws.iam.helper_role import POLICY, role_name
from runctl.providers.aws.iam.roles import REACH_POLICY
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.filling.plan import PrewarmRequest, plan_prewarm
from tests.aws_fixtures import Refuse

BUCKET = "data"


@pytest.fixture
def volume(provider: AwsProvider, session: AwsSession) -> Volume:
    session.s3.create_bucket(Bucket=BUCKET)
    session.s3.put_object(Bucket=BUCKET, Key="set/a", Body=b"12345")
    session.s3.put_object(Bucket=BUCKET, Key="set2/b", Body=b"1")
    plan = provider.volumes.plan(VolumeRequest(size_gib=10, name="datasets", zone="us-east-1a"))
    return provider.volumes.create(plan)


@pytest.fixture
def policies(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """AWS's own policies are not in moto, so attaching and detaching one is only watched."""
    calls: list[dict[str, str]] = []
    for name in ("attach_role_policy", "detach_role_policy"):
        monkeypatch.setattr(session.iam, name, lambda **call: calls.append(call))
    return calls


def no_agent(_: Any) -> Any:
    raise AssertionError("nobody is to be asked")


def test_the_role_reads_the_source_and_is_gone_afterwards(
    provider: AwsProvider, session: AwsSession, volume: Volume, policies: list[dict[str, str]]
) -> None:
    name, text = provider.filling.plan_role(volume.id)
    assert name == f"runctl-prewarm-{volume.id}"
    assert "deleted at the end" in text

    for prefix in ("old", "set"):
        provider.filling.ensure_role(name, policy(Source(BUCKET, prefix)))
    document: Any = session.iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"]
    profile = session.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]

    assert document == json.loads(json.dumps(policy(Source(BUCKET, "set"))))
    assert [role["RoleName"] for role in profile["Roles"]] == [name]
    assert set(session.iam.list_role_policies(RoleName=name)["PolicyNames"]) == {POLICY, REACH_POLICY}

    provider.filling.drop_role(name)
    provider.filling.drop_role(name)
    with pytest.raises(session.iam.exceptions.NoSuchEntityException):
        session.iam.get_role(RoleName=name)
    with pytest.raises(session.iam.exceptions.NoSuchEntityException):
        session.iam.get_instance_profile(InstanceProfileName=name)


def test_a_role_that_is_not_ours_is_left_alone(
    provider: AwsProvider, session: AwsSession, policies: list[dict[str, str]]
) -> None:
    name = role_name(VolumeId("vol-1"))
    session.iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")

    with pytest.raises(PermissionDenied, match="not created by runctl"):
        provider.filling.ensure_role(name, policy(Source(BUCKET)))
    provider.filling.drop_role(name)

    assert session.iam.get_role(RoleName=name)["Role"]["RoleName"] == name
    assert policies == []


def test_the_plan_of_a_helper_says_what_it_costs_and_rents_nothing(
    provider: AwsProvider, session: AwsSession, volume: Volume
) -> None:
    plan = plan_prewarm(provider, PrewarmRequest(volume, Source(BUCKET, "set")), no_agent)

    assert (plan.way, plan.where, plan.into) == ("s3", "helper", "/mnt/datasets")
    assert (plan.stored and plan.stored.objects, plan.size_bytes) == (1, 5)
    machine = plan.machine
    assert machine is not None
    assert (machine.zone, machine.market) == ("us-east-1a", Market.ON_DEMAND)
    assert machine.tags[tag.HELPER_FOR] == volume.id
    assert machine.ttl == timedelta(hours=1)
    assert machine.instance_profile == plan.role == f"runctl-prewarm-{volume.id}"
    assert plan.estimate.usd is not None
    assert session.ec2.describe_instances()["Reservations"] == []


def test_a_helper_that_runs_is_taken_over_and_others_are_not(
    provider: AwsProvider, session: AwsSession, volume: Volume
) -> None:
    other = provider.renting.create(provider.renting.plan(InstanceRequest(instance_type="t3.medium")))
    request = InstanceRequest(instance_type="t3.medium", zone="us-east-1a", helper_for=volume.id)
    helper = provider.renting.create(provider.renting.plan(request))

    plan = plan_prewarm(provider, PrewarmRequest(volume, Source(BUCKET, "set")), no_agent)

    assert (plan.where, plan.instance and plan.instance.id, plan.machine) == ("helper-found", helper.id, None)
    assert [item.id for item in provider.filling.helpers(volume.id)] == [helper.id]
    assert provider.filling.helpers(VolumeId("vol-2")) == ()
    provider.renting.terminate(helper.id)
    assert provider.instance(other.id).state.value == "running"
    assert plan_prewarm(provider, PrewarmRequest(volume, Source(BUCKET, "set")), no_agent).where == "helper"


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"source": Source("there-is-no-such-bucket")}, NotFound, "no-bucket"),
        ({"source": Source(BUCKET, "nothing")}, NotFound, "nothing-there"),
        ({"source": Source(BUCKET, "se")}, NotFound, "nothing-there"),
        ({"helper": False}, UsageError, "usage"),
        ({"to": "../x"}, UsageError, "usage"),
        ({"to": "/x"}, UsageError, "usage"),
        ({"source": None, "delete": True}, UsageError, "usage"),
        ({"source": None}, UsageError, "nothing-to-fill"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_rented(
    provider: AwsProvider,
    session: AwsSession,
    volume: Volume,
    change: dict[str, Any],
    error: type[RunctlError],
    code: str,
) -> None:
    with pytest.raises(error) as caught:
        plan_prewarm(provider, replace(PrewarmRequest(volume, Source(BUCKET, "set")), **change), no_agent)

    assert caught.value.code == code
    assert session.ec2.describe_instances()["Reservations"] == []


def test_a_volume_that_is_too_small_is_refused_with_the_size_it_needs(
    provider: AwsProvider, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = provider.filling.stored_data(BUCKET, "set")
    monkeypatch.setattr(EbsFilling, "stored_data", lambda *_: replace(stored, size_bytes=20 << 30))

    with pytest.raises(Conflict, match=r"has 10 GiB, and there are 20\.0 GiB") as caught:
        plan_prewarm(provider, PrewarmRequest(volume, Source(BUCKET, "set")), no_agent)
    assert caught.value.hint == f"runctl aws ebs resize {volume.id} --size 21"


def test_a_volume_elsewhere_is_not_taken_from_its_machine(provider: AwsProvider, volume: Volume) -> None:
    instance = provider.renting.create(
        provider.renting.plan(InstanceRequest(instance_type="t3.medium", zone="us-east-1a"))
    )
    attached = provider.volumes.attach(volume.id, instance.id)

    with pytest.raises(Conflict, match=f"attached to {instance.id}"):
        plan_prewarm(provider, PrewarmRequest(attached, Source(BUCKET, "set"), helper=True), no_agent)


def test_data_that_may_not_be_listed_from_here_is_planned_without_its_size(
    provider: AwsProvider, session: AwsSession, volume: Volume, refuse: Refuse
) -> None:
    refuse(session.s3, "ListObjectsV2", "AccessDenied", "no")

    plan = plan_prewarm(provider, PrewarmRequest(volume, Source(BUCKET, "set")), no_agent)

    assert plan.size_bytes is None
    assert "is not known: your account is not allowed to list it" in plan.warnings[0]
    assert plan.estimate.seconds > 60


def test_a_machines_baselines_are_read_from_its_description(session: AwsSession) -> None:
    (described,) = session.ec2.describe_instance_types(InstanceTypes=["c6in.xlarge"])["InstanceTypes"]

    ebs, network = baselines(described)

    assert ebs == pytest.approx(390.625e6 / (1 << 20), rel=0.01)
    assert network == pytest.approx(6.25e9 / 8 / (1 << 20), rel=0.01)
    assert baselines({}) == pytest.approx((40e6 / (1 << 20), 0.25e9 / 8 / (1 << 20)))
