"""Subnets and security groups: what is there, and whether SSH gets in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass
from runctl.core.errors import NotFound, UsageError
from runctl.core.names import did_you_mean
from runctl.providers.aws.calls.errors import our_errors

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession


@dataclass(frozen=True)
class Subnet:
    """Where a machine's network interface goes."""

    id: str
    zone: str
    vpc: str
    public: bool
    """Machines get a public address there."""


def subnet(session: AwsSession, subnet_id: str) -> Subnet:
    """Raises `NotFound`."""
    with our_errors(session.endpoint):
        return _subnet_of(session.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"][0])


def default_subnets(session: AwsSession) -> tuple[Subnet, ...]:
    """Those that EC2 uses when none is named, one for each zone; empty where there is no default VPC."""
    paginator = session.ec2.get_paginator("describe_subnets")
    pages = paginator.paginate(Filters=[{"Name": "default-for-az", "Values": ["true"]}])
    found = (_subnet_of(item) for page in pages for item in page["Subnets"])
    return tuple(sorted(found, key=lambda s: s.zone))


def check_subnet_in(subnets: Sequence[Subnet], zone: str | None) -> None:
    """Raises `UsageError` where there is no default subnet: none in the zone, or none at all. Pure."""
    if not subnets:
        raise UsageError(
            "the region has no default VPC, so a subnet must be named",
            hint="--subnet subnet-… (or `aws ec2 create-default-vpc`)",
        )
    if zone is not None and all(candidate.zone != zone for candidate in subnets):
        raise UsageError(
            f"the default VPC has no subnet in {zone}",
            hint=f"--subnet subnet-… of that zone, `aws ec2 create-default-subnet --availability-zone {zone}`,"
            f" or another zone: {', '.join(s.zone for s in subnets)}",
        )


def offered_zones(session: AwsSession, instance_types: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The zones of the region that have each type, sorted; none for a type that the region does not offer."""
    paginator = session.ec2.get_paginator("describe_instance_type_offerings")
    pages = paginator.paginate(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": list(instance_types)}],
    )
    found: dict[str, list[str]] = {name: [] for name in instance_types}
    for page in pages:
        for item in page["InstanceTypeOfferings"]:
            found[item["InstanceType"]].append(item["Location"])
    return {name: tuple(sorted(zones)) for name, zones in found.items()}


def security_groups(session: AwsSession, wanted: Sequence[str], vpc: str) -> tuple[Mapping[str, Any], ...]:
    """The groups, described, in order; names are looked up in ``vpc``. Without any wanted, the VPC's default group.

    Raises `NotFound`, and `UsageError` for a group of another VPC.
    """
    paginator = session.ec2.get_paginator("describe_security_groups")
    pages = paginator.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    groups = [group for page in pages for group in page["SecurityGroups"]]
    by_name = {group["GroupName"]: group for group in groups}
    by_id = {group["GroupId"]: group for group in groups}
    if not wanted:
        return (by_name["default"],) if "default" in by_name else ()
    found: list[Mapping[str, Any]] = []
    for name in wanted:
        group = by_id.get(name) or by_name.get(name)
        if group is None and name.startswith("sg-"):
            with our_errors(session.endpoint):
                other = session.ec2.describe_security_groups(GroupIds=[name])["SecurityGroups"][0]
            raise UsageError(f"security group {name} is in {other['VpcId']}, the subnet in {vpc}")
        if group is None:
            hint = did_you_mean(name, by_name) or f"those of {vpc}: {', '.join(sorted(by_name))}"
            raise NotFound(f"{vpc} has no security group {name!r}", hint=hint)
        found.append(group)
    return tuple(found)


def lets_ssh_in(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any rule lets TCP port 22 in from addresses; from where is not judged. Pure."""
    for group in groups:
        for rule in group.get("IpPermissions", ()):
            everything = rule.get("IpProtocol") == "-1"
            covers = rule.get("IpProtocol") in {"tcp", "6"} and rule.get("FromPort", 0) <= 22 <= rule.get(
                "ToPort", 0
            )
            if (everything or covers) and (
                rule.get("IpRanges") or rule.get("Ipv6Ranges") or rule.get("PrefixListIds")
            ):
                return True
    return False


def _subnet_of(described: Mapping[str, Any]) -> Subnet:
    return Subnet(
        described["SubnetId"],
        described["AvailabilityZone"],
        described["VpcId"],
        bool(described.get("MapPublicIpOnLaunch")),
    )
