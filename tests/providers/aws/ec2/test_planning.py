"""A plan answers every question before anything is paid for."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, Unsupported, UsageError, ZoneMismatch
from runctl.core.machine_models import Market
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.errors import NotOffered
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import DEFAULT_INSTANCE_TYPE
from runctl.providers.aws.ec2.images import InstanceType, login_user_for, parameter_for
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse, context_of


def a_volume(provider: AwsProvider, name: str, zone: str = "us-east-1b") -> str:
    return provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name=name, zone=zone))).id


def mounted(*names: str) -> InstanceRequest:
    return InstanceRequest(volumes=tuple(VolumeMount(name, f"/mnt/{name}") for name in names))


def test_without_a_wish_the_documented_defaults_are_taken(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest())

    assert plan.instance_type == DEFAULT_INSTANCE_TYPE
    assert plan.market is Market.ON_DEMAND
    assert plan.zone is None
    assert plan.login_user == "ec2-user"
    assert "Amazon Linux 2023" in plan.image_reason
    assert plan.root_volume_size_gib == 30
    assert plan.instance_profile == DEFAULT_PROFILE
    assert plan.will_also_create == ()


def test_a_budget_counts_on_the_highest_price_of_the_week(provider: AwsProvider) -> None:
    on_demand = provider.renting.plan(InstanceRequest(budget=Decimal(1), instance_type="t3.medium"))
    assert on_demand.price is not None
    assert on_demand.budget_time is not None

    hourly = on_demand.price.usd + on_demand.volume_prices["root"].usd / 730
    assert on_demand.budget_time == timedelta(seconds=int(3600 / hourly))
    assert on_demand.tags[tag.BUDGET] == "1"
    assert on_demand.tags[tag.IDLE_TIMEOUT] == "3600"
    assert tag.EXPIRES_AT in on_demand.tags


def test_the_request_beats_the_configuration(session: AwsSession, clock: ManualClock, tmp_path: Path) -> None:
    provider = AwsProvider(
        context_of(session, clock, tmp_path, instance_type="t3.micro", root_volume_size=50, ttl="3h")
    )

    configured = provider.renting.plan(InstanceRequest())
    asked = provider.renting.plan(
        InstanceRequest(instance_type="t3.small", root_volume_size_gib=60, ttl=timedelta(hours=1))
    )

    assert (configured.instance_type, configured.root_volume_size_gib) == ("t3.micro", 50)
    assert configured.ttl == timedelta(hours=3)
    assert (asked.instance_type, asked.root_volume_size_gib, asked.ttl) == (
        "t3.small",
        60,
        timedelta(hours=1),
    )


def test_a_volume_by_name_becomes_its_id_and_decides_the_zone_and_subnet(
    provider: AwsProvider, session: AwsSession
) -> None:
    volume = a_volume(provider, "datasets")

    plan = provider.renting.plan(mounted("datasets"))

    assert plan.volumes == (VolumeMount(volume, "/mnt/datasets"),)
    assert (plan.zone, plan.zone_reason) == ("us-east-1b", "the volume's zone")
    subnets: Any = session.ec2.describe_subnets(SubnetIds=[plan.subnet or ""])
    assert subnets["Subnets"][0]["AvailabilityZone"] == "us-east-1b"
    assert plan.volume_prices[volume].usd == Decimal("0.08")
    assert plan.tags[tag.MOUNTS] == f"{volume}=/mnt/datasets"


def test_volumes_of_two_zones_are_refused(provider: AwsProvider) -> None:
    a_volume(provider, "one", "us-east-1a")
    a_volume(provider, "two", "us-east-1b")

    with pytest.raises(ZoneMismatch):
        provider.renting.plan(mounted("one", "two"))


def test_a_volume_in_use_names_who_uses_it(provider: AwsProvider) -> None:
    a_volume(provider, "datasets")
    user = provider.renting.create(provider.renting.plan(mounted("datasets")))

    with pytest.raises(Conflict, match=user.id) as caught:
        provider.renting.plan(mounted("datasets"))

    assert caught.value.code == "volume-in-use"


def test_the_same_volume_by_name_and_by_id_is_named_twice(provider: AwsProvider) -> None:
    volume = a_volume(provider, "datasets")

    with pytest.raises(UsageError, match="twice"):
        provider.renting.plan(mounted("datasets", volume))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (InstanceRequest(volumes=(VolumeMount("a", "/x"), VolumeMount("b", "/x"))), "both be mounted at /x"),
        (
            InstanceRequest(volumes=(VolumeMount("a", "/x"),), data_volume_size_gib=1, data_mount_point="/x"),
            "/x",
        ),
        (InstanceRequest(volumes=(VolumeMount("a", "data"),)), "mount point"),
        (InstanceRequest(ttl=timedelta(seconds=1)), "time to live"),
        (InstanceRequest(idle_timeout=timedelta(seconds=1)), "idle timeout"),
        (InstanceRequest(budget=Decimal("0.0001")), "pays for"),
        (InstanceRequest(tags={"runctl:managed": "false"}), "reserved"),
        (InstanceRequest(tags={"aws:x": "y"}), "reserved"),
        (InstanceRequest(data_volume_size_gib=0), "GiB"),
        (InstanceRequest(zone="eu-west-1a"), "not in us-east-1"),
        (
            InstanceRequest(volumes=tuple(VolumeMount(f"v{n}", f"/v{n}") for n in range(12))),
            "more than the 11",
        ),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    provider: AwsProvider, request_: InstanceRequest, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        provider.renting.plan(request_)


@pytest.mark.parametrize(
    "request_",
    [
        InstanceRequest(instance_type="m7i.larg"),
        InstanceRequest(image="ami-00000000"),
        InstanceRequest(key_name="no-such-key"),
        InstanceRequest(security_groups=("no-such-group",)),
        InstanceRequest(subnet="subnet-00000000"),
        InstanceRequest(instance_profile="no-such-profile"),
        InstanceRequest(volumes=(VolumeMount("no-such-volume", "/mnt/x"),)),
    ],
    ids=["type", "image", "key", "group", "subnet", "profile", "volume"],
)
def test_what_does_not_exist_is_not_found(provider: AwsProvider, request_: InstanceRequest) -> None:
    with pytest.raises(NotFound) as caught:
        provider.renting.plan(request_)

    assert caught.value.hint


def test_a_misspelt_type_gets_a_suggestion(provider: AwsProvider) -> None:
    with pytest.raises(NotFound) as caught:
        provider.renting.plan(InstanceRequest(instance_type="m7i.larg"))

    assert 'did you mean "m7i.large"?' in caught.value.hint


def test_a_zone_without_the_type_names_those_that_have_it(provider: AwsProvider, session: AwsSession) -> None:
    answer: Any = session.ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["p4d.24xlarge"]}]
    )
    having = {offer["Location"] for offer in answer["InstanceTypeOfferings"]}
    lacking = next(zone for zone in (f"us-east-1{letter}" for letter in "abcdef") if zone not in having)

    with pytest.raises(NotOffered) as caught:
        provider.renting.plan(InstanceRequest(instance_type="p4d.24xlarge", zone=lacking))

    assert set(caught.value.zones) == having


def test_a_root_volume_smaller_than_the_image_is_refused(provider: AwsProvider) -> None:
    with pytest.raises(UsageError, match="at least"):
        provider.renting.plan(InstanceRequest(root_volume_size_gib=1))


def test_an_image_of_the_other_architecture_is_refused(provider: AwsProvider, session: AwsSession) -> None:
    images: Any = session.ec2.describe_images(Owners=["amazon"])["Images"]
    x86 = next(i for i in images if i["Architecture"] == "x86_64" and i.get("Platform") != "windows")

    with pytest.raises(UsageError, match="arm64"):
        provider.renting.plan(InstanceRequest(instance_type="m7g.large", image=x86["ImageId"]))


def test_without_a_default_vpc_a_subnet_must_be_named(provider: AwsProvider, session: AwsSession) -> None:
    for subnet in session.ec2.describe_subnets()["Subnets"]:
        session.ec2.delete_subnet(SubnetId=subnet["SubnetId"])

    with pytest.raises(UsageError, match="subnet") as caught:
        provider.renting.plan(InstanceRequest())

    assert "--subnet" in caught.value.hint


def test_a_group_of_another_vpc_is_refused(provider: AwsProvider, session: AwsSession) -> None:
    vpc = session.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = session.ec2.create_security_group(GroupName="elsewhere", Description="x", VpcId=vpc)["GroupId"]

    with pytest.raises(UsageError, match=vpc):
        provider.renting.plan(InstanceRequest(security_groups=(group,)))


def test_groups_are_found_by_name_and_by_id(provider: AwsProvider, session: AwsSession) -> None:
    group = session.ec2.create_security_group(GroupName="mine", Description="x")["GroupId"]

    assert provider.renting.plan(InstanceRequest(security_groups=("mine",))).security_groups == (group,)
    assert provider.renting.plan(InstanceRequest(security_groups=(group,))).security_groups == (group,)


def test_a_missing_instance_profile_is_announced(provider: AwsProvider, session: AwsSession) -> None:
    session.iam.remove_role_from_instance_profile(
        InstanceProfileName=DEFAULT_PROFILE, RoleName=DEFAULT_PROFILE
    )
    session.iam.delete_instance_profile(InstanceProfileName=DEFAULT_PROFILE)

    plan = provider.renting.plan(InstanceRequest())

    assert plan.instance_profile == DEFAULT_PROFILE
    assert any(DEFAULT_PROFILE in thing for thing in plan.will_also_create)


def test_without_any_right_to_look_at_profiles_an_unreachable_machine_is_refused(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    refuse(session.iam, "GetInstanceProfile", "AccessDenied")

    with pytest.raises(PermissionDenied, match="could not be reached"):
        provider.renting.plan(InstanceRequest())


def test_spot_has_a_spot_price_and_the_on_demand_price_beside_it(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest(market=Market.SPOT))

    assert plan.price is not None
    assert plan.on_demand_price is not None
    assert "spot" in plan.price.source
    assert plan.on_demand_price.usd == Decimal("0.1008")
    assert not plan.on_demand_price.current


def kind(name: str, arch: str = "x86_64", accelerator: str | None = None) -> InstanceType:
    return InstanceType(name, arch, accelerator, spot=True)


@pytest.mark.parametrize(
    ("instance_type", "part"),
    [
        (kind("m7i.large"), "al2023-ami-kernel-default-x86_64"),
        (kind("m7g.large", "arm64"), "al2023-ami-kernel-default-arm64"),
        (kind("g5.xlarge", accelerator="nvidia"), "deeplearning/ami/x86_64/"),
        (kind("g5g.xlarge", "arm64", "nvidia"), "deeplearning/ami/arm64/"),
        (kind("trn1.2xlarge", accelerator="neuron"), "/neuron/dlami/"),
        (kind("dl1.24xlarge", accelerator="habana"), "al2023"),
    ],
)
def test_the_image_fits_the_machine(instance_type: InstanceType, part: str) -> None:
    assert part in parameter_for(instance_type)[0]


def test_gpus_that_no_current_image_knows_are_said_to_be_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"p3\.2xlarge"):
        parameter_for(kind("p3.2xlarge", accelerator="nvidia"))


@pytest.mark.parametrize(
    ("name", "tags", "user"),
    [
        ("al2023-ami-2023.5-kernel-6.1-x86_64", {}, "ec2-user"),
        ("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 2026", {}, "ubuntu"),
        ("debian-12-amd64-2026", {}, "admin"),
        ("Deep Learning (Ubuntu 22.04)", {tag.LOGIN_USER: "trainer"}, "trainer"),
        ("", {}, "ec2-user"),
    ],
)
def test_the_login_user_follows_the_image_unless_its_tag_says_otherwise(
    name: str, tags: dict[str, str], user: str
) -> None:
    assert login_user_for(name, "", tags) == user


def test_without_a_mount_point_a_volume_goes_where_it_was_last_else_by_its_name(
    provider: AwsProvider, session: AwsSession
) -> None:
    before, new = a_volume(provider, "before"), a_volume(provider, "new")
    session.ec2.create_tags(Resources=[before], Tags=[{"Key": tag.MOUNT_POINT, "Value": "/mnt/data"}])

    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("before"), VolumeMount("new"))))
    taken = provider.renting.plan(
        InstanceRequest(volumes=(VolumeMount("before"), VolumeMount("new", "/mnt/data")))
    )

    assert [mount.mount_point for mount in plan.volumes] == ["/mnt/data", "/mnt/new"]
    assert [mount.mount_point for mount in taken.volumes] == ["/mnt/before", "/mnt/data"]
    assert plan.tags[tag.MOUNTS] == f"{before}=/mnt/data {new}=/mnt/new"
