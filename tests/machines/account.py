"""The account that commands which are cut short work in, and what they need there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import boto3
from botocore.config import Config

from runctl.connection import connect
from runctl.core.ids import InstanceId
from runctl.providers.abilities.volume_plans import SnapshotRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.instance_plans import InstanceRequest
from runctl.storage.attaching import MountOptions, attach_and_mount
from tests.machines.conftest import Runctl

ZONE = "us-east-1a"
NUMBERS = count(1)
"""Names are new in every test: they share the account."""


class Account:
    """What is really there."""

    def __init__(self) -> None:
        settings = Config(retries={"max_attempts": 2})
        self.ec2 = boto3.client("ec2", region_name="us-east-1", config=settings)
        self.iam = boto3.client("iam", region_name="us-east-1", config=settings)
        self._roots: set[str] = set()
        """Of all instances that were seen: they are there for a moment after theirs has ended."""

    def wait_for_ends(self) -> None:
        """No instance is on its way out: no volume is on one, and root disks have gone."""
        going = [
            item["InstanceId"]
            for reservation in self.ec2.describe_instances()["Reservations"]
            for item in reservation["Instances"]
            if item["State"]["Name"] == "shutting-down"
        ]
        if going:
            self.ec2.get_waiter("instance_terminated").wait(InstanceIds=going, WaiterConfig={"Delay": 1})

    def things(self) -> dict[str, dict[str, str]]:
        """Tags by id: of instances that are not over, of their disks no, of other volumes, and of snapshots."""
        found: dict[str, dict[str, str]] = {}
        roots = self._roots
        for reservation in self.ec2.describe_instances()["Reservations"]:
            for item in reservation["Instances"]:
                roots |= {
                    mapping["Ebs"]["VolumeId"]
                    for mapping in item["BlockDeviceMappings"]
                    if mapping["DeviceName"] == item["RootDeviceName"]
                }
                if item["State"]["Name"] not in {"shutting-down", "terminated"}:
                    found[item["InstanceId"]] = _tags(item)
        for volume in self.ec2.describe_volumes()["Volumes"]:
            if volume["VolumeId"] not in roots and volume["State"] not in {"deleting", "deleted"}:
                found[volume["VolumeId"]] = _tags(volume)
        for snapshot in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
            found[snapshot["SnapshotId"]] = _tags(snapshot)
        return found

    def attachments(self) -> set[tuple[str, str]]:
        """Which volume is on which instance; root disks too, as they are the same before and after."""
        return {
            (each["VolumeId"], each["InstanceId"])
            for volume in self.ec2.describe_volumes()["Volumes"]
            for each in volume["Attachments"]
            if each["State"] in {"attached", "attaching"}
        }

    def forget_profile(self) -> None:
        """As in an account in which runctl was never used."""
        name = DEFAULT_PROFILE
        for call, more in (
            (self.iam.remove_role_from_instance_profile, {"InstanceProfileName": name, "RoleName": name}),
            (self.iam.delete_instance_profile, {"InstanceProfileName": name}),
        ):
            _unless_missing(self.iam, call, **more)
        try:
            attached = self.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            inline = self.iam.list_role_policies(RoleName=name)["PolicyNames"]
        except self.iam.exceptions.NoSuchEntityException:
            return
        for policy in attached:
            self.iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
        for policy_name in inline:
            self.iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        self.iam.delete_role(RoleName=name)


def _unless_missing(iam: Any, call: Callable[..., Any], **arguments: str) -> None:
    try:
        call(**arguments)
    except iam.exceptions.NoSuchEntityException:
        return


def _tags(item: Any) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in item.get("Tags", ())}


@dataclass
class World:
    """One command line and the account that it works on; everything is new at each point."""

    runctl: Runctl
    account: Account
    machine: str = ""
    count: int = 0

    @cached_property
    def provider(self) -> AwsProvider:
        """For what a command needs to be there."""
        found = connect("aws")
        assert isinstance(found, AwsProvider)
        return found

    def volume(self) -> str:
        """A new volume's name, which is new too."""
        self.count = next(NUMBERS)
        name = f"v{self.count}"
        self.provider.volumes.create(self.provider.volumes.plan(VolumeRequest(1, name=name, zone=ZONE)))
        return name

    def attached(self) -> str:
        name = self.volume()
        instance, options = self.provider.instance(InstanceId(self.machine)), MountOptions(fstype="xfs")
        attach_and_mount(
            self.provider, self.provider.agent, self.provider.volumes.find(name), instance, options
        )
        return name

    def snapshot(self) -> str:
        name = f"s-{self.volume()}"
        taken = self.provider.snapshots.create(
            self.provider.snapshots.plan(SnapshotRequest(name.removeprefix("s-"), name))
        )
        self.provider.snapshots.wait(taken.id)
        return name

    def launched(self, *, stopped: bool = False) -> str:
        created = self.provider.renting.create(self.provider.renting.plan(InstanceRequest(zone=ZONE)))
        if stopped:
            self.provider.stop_and_start.stop(created.id)
            self.account.ec2.get_waiter("instance_stopped").wait(
                InstanceIds=[created.id], WaiterConfig={"Delay": 1}
            )
        # While it is there its root disk can be told from a volume.
        self.account.things()
        return created.id
