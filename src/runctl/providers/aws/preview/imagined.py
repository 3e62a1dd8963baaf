"""What reading calls would answer after the calls that are only shown: the account as it is, with these carried out.

Only what runctl's commands read of what they have just changed is imagined; everything else is answered by AWS itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.preview.script import Script

Item = dict[str, Any]
Params = Mapping[str, Any]
GONE = {
    "DescribeVolumes": "InvalidVolume.NotFound",
    "DescribeSnapshots": "InvalidSnapshot.NotFound",
}
NO_ENTITY = "NoSuchEntity"
_IDS = {"InstanceId": "instance-id", "VolumeId": "volume-id", "SnapshotId": "snapshot-id"}
"""How a filter names them."""
_SHAPE = ("Size", "VolumeType", "Iops", "Throughput", "VolumeInitializationRate")
_LISTS = {
    "DescribeInstances": ("InstanceIds", "InstanceId"),
    "DescribeVolumes": ("VolumeIds", "VolumeId"),
    "DescribeSnapshots": ("SnapshotIds", "SnapshotId"),
}
"""Which parameter names what is described, and what its id is called in an item."""


class Refused(Exception):
    """AWS would answer with an error of this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Imagined:
    """An account in which the calls that were shown have been carried out."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._made: dict[str, Item] = {}
        """What does not exist, by its placeholder, as it is described."""
        self._states: dict[str, list[str]] = {}
        """The states of an instance, from now on; the last one stays."""
        self._attached: dict[str, list[Item]] = {}
        """The attachments of a volume that was attached or detached."""
        self._tags: dict[str, dict[str, str | None]] = {}
        self._modified: dict[str, Params] = {}
        self._gone: set[str] = set()
        self._released: set[str] = set()
        """Volumes whose instance has ended."""
        self._filled: set[str] = set()
        """Volumes whose data is waited for already."""
        self._waits: dict[str, tuple[str, ...]] = {}
        """What is waited for before something is read again."""
        self._roles: dict[str, Item] = {}
        self._profiles: dict[str, Item] = {}
        self._attached_policies: set[tuple[str, str]] = set()
        """By role and ARN."""
        self._policies: dict[tuple[str, str], str] = {}
        """As IAM answers with them, which botocore decodes."""

    # What was shown.

    def instance(self, created: str, params: Params, instance_type: str, zone: str) -> Item:
        """One that RunInstances or CreateFleet has been shown for."""
        item: Item = {
            "InstanceId": created,
            "ImageId": params.get("ImageId", ""),
            "InstanceType": instance_type,
            "State": {"Name": "pending"},
            "LaunchTime": datetime.now(UTC),
            "Placement": {"AvailabilityZone": zone},
            "BlockDeviceMappings": [],
            "SecurityGroups": [{"GroupId": each} for each in params.get("SecurityGroupIds", ())],
            "Tags": _tags_in(params, "instance"),
        }
        if params.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
            item["InstanceLifecycle"] = "spot"
        self._made[created] = item
        self.become([created], "pending", "running")
        return item

    def volume(self, created: str, params: Params, zone: str, more: Params) -> Item:
        """One that CreateVolume or CopyVolumes has been shown for."""
        item: Item = {
            "VolumeId": created,
            "State": "available",
            "AvailabilityZone": zone,
            "CreateTime": datetime.now(UTC),
            "Attachments": [],
            "Encrypted": bool(params.get("Encrypted", True)),
            "MultiAttachEnabled": bool(params.get("MultiAttachEnabled")),
            "SnapshotId": params.get("SnapshotId", ""),
            "Tags": _tags_in(params, "volume"),
            "Iops": 3000,
            **more,
            **{key: params[key] for key in _SHAPE if key in params},
        }
        self._made[created] = item
        self._waits[created] = ("ec2", "wait", "volume-available", "--volume-ids")
        return {**item, "State": "creating"}

    def snapshot(self, created: str, params: Params, size_gib: int) -> Item:
        """One that CreateSnapshot has been shown for."""
        item: Item = {
            "SnapshotId": created,
            "VolumeId": params["VolumeId"],
            "VolumeSize": size_gib,
            "State": "completed",
            "Progress": "100%",
            "StartTime": datetime.now(UTC),
            "Description": params.get("Description", ""),
            "Encrypted": True,
            "Tags": _tags_in(params, "snapshot"),
        }
        self._made[created] = item
        self._waits[created] = ("ec2", "wait", "snapshot-completed", "--snapshot-ids")
        return {**item, "State": "pending", "Progress": "0%"}

    def become(self, instance_ids: list[str], *states: str) -> None:
        """Instances change their state, from one reading to the next."""
        for each in instance_ids:
            self._states[each] = list(states)

    def attach(self, params: Params) -> Item:
        """See AttachVolume."""
        volume = params["VolumeId"]
        attachment = {**params, "State": "attached", "DeleteOnTermination": False}
        self._attached.setdefault(volume, []).append(attachment)
        self._waits[volume] = ("ec2", "wait", "volume-in-use", "--volume-ids")
        return {**attachment, "State": "attaching"}

    def detach(self, params: Params) -> Item:
        """See DetachVolume."""
        volume = params["VolumeId"]
        self._attached[volume] = [{"detached": params.get("InstanceId")}]
        self._waits[volume] = ("ec2", "wait", "volume-available", "--volume-ids")
        return {**params, "State": "detaching"}

    def modify(self, params: Params) -> Item:
        """See ModifyVolume."""
        self._modified[params["VolumeId"]] = params
        return {"VolumeModification": self._modification(params["VolumeId"])}

    def tag(self, params: Params, *, gone: bool) -> None:
        """See CreateTags and DeleteTags."""
        for resource in params["Resources"]:
            tags = self._tags.setdefault(resource, {})
            tags.update({each["Key"]: None if gone else each.get("Value", "") for each in params["Tags"]})

    def delete(self, identifier: str) -> None:
        """A volume or a snapshot."""
        self._gone.add(identifier)

    def role(self, params: Params) -> Item:
        """See CreateRole."""
        name = params["RoleName"]
        self._roles[name] = {
            "RoleName": name,
            "Path": "/",
            "Arn": f"role/{name}",
            "Tags": params.get("Tags", []),
        }
        return {"Role": self._roles[name]}

    def profile(self, params: Params) -> Item:
        """See CreateInstanceProfile."""
        name = params["InstanceProfileName"]
        self._profiles[name] = {
            "InstanceProfileName": name,
            "Arn": f"instance-profile/{name}",
            "Path": "/",
            "Roles": [],
            "Tags": params.get("Tags", []),
        }
        return {"InstanceProfile": self._profiles[name]}

    def join(self, params: Params) -> None:
        """See AddRoleToInstanceProfile."""
        name = params["InstanceProfileName"]
        profile = self._profiles.setdefault(name, {"InstanceProfileName": name, "Arn": "", "Tags": []})
        profile["Roles"] = [{"RoleName": params["RoleName"]}]
        self._waits[name] = ("iam", "wait", "instance-profile-exists", "--instance-profile-name")

    def attach_policy(self, params: Params) -> None:
        """See AttachRolePolicy."""
        self._attached_policies.add((params["RoleName"], params["PolicyArn"]))

    def policy(self, params: Params) -> None:
        """See PutRolePolicy."""
        self._policies[params["RoleName"], params["PolicyName"]] = quote(params["PolicyDocument"])

    def refused(self, operation: str, params: Params) -> str | None:
        """The code of the error by which a changing call would fail; ``None``: it is taken for one that succeeds."""
        if operation == "DetachRolePolicy" and params["RoleName"] in self._roles:
            attached = (params["RoleName"], params["PolicyArn"]) in self._attached_policies
            return None if attached else NO_ENTITY
        return None

    # What is read.

    def answer(self, operation: str, params: Params) -> Item | None:
        """What AWS cannot know; ``None``: it is to be asked. Raises `Refused`."""
        reader: Callable[[Params], Item | None] | None = {
            "DescribeInstances": lambda asked: self._described("DescribeInstances", asked),
            "DescribeVolumes": lambda asked: self._described("DescribeVolumes", asked),
            "DescribeSnapshots": lambda asked: self._described("DescribeSnapshots", asked),
            "DescribeVolumesModifications": self._modifications,
            "DescribeVolumeStatus": self._volume_status,
            "GetRole": lambda asked: _named("Role", self._roles.get(asked["RoleName"])),
            "GetInstanceProfile": self._profile,
            "GetRolePolicy": self._role_policy,
        }.get(operation)
        return None if reader is None else reader(params)

    def _described(self, operation: str, params: Params) -> Item | None:
        many, _ = _LISTS[operation]
        ids = list(params.get(many) or ())
        if any(each in self._gone for each in ids):
            raise Refused(GONE[operation])
        asked = {value for each in params.get("Filters") or () for value in each.get("Values", ())}
        found = [self._made[each] for each in self._made if each in ids or each in asked]
        if not found:
            return None
        items = [copy.deepcopy(each) for each in found]
        return {"Reservations": [{"Instances": items}]} if many == "InstanceIds" else {many[:-3] + "s": items}

    def amend(self, operation: str, params: Params, answer: Item) -> None:
        """An answer of AWS, or an imagined one, is as it would be after what was shown."""
        if operation in _LISTS and not answer.get("NextToken"):
            self._add_created(operation, params, answer)
        if operation == "DescribeInstances":
            for reservation in answer.get("Reservations", ()):
                for item in reservation["Instances"]:
                    self._amend_instance(item)
        elif operation in ("DescribeVolumes", "DescribeSnapshots"):
            key = "VolumeId" if operation == "DescribeVolumes" else "SnapshotId"
            many = operation.removeprefix("Describe")
            kept = [item for item in answer.get(many, ()) if item[key] not in self._gone]
            answer[many] = kept
            for item in kept:
                self._amend_tags(item, item[key])
                if many == "Volumes":
                    self._amend_volume(item)
                self._wait(item[key])

    def _add_created(self, operation: str, params: Params, answer: Item) -> None:
        """What was asked for by what it is like, and not by its id."""
        many, key = _LISTS[operation]
        filters = params.get("Filters") or ()
        if params.get(many) or not filters:
            return
        reservations = answer.setdefault("Reservations", []) if operation == "DescribeInstances" else []
        listed = [item for each in reservations for item in each["Instances"]]
        if operation != "DescribeInstances":
            listed = answer.setdefault(operation.removeprefix("Describe"), [])
        known = {item[key] for item in listed}
        found = [
            copy.deepcopy(item)
            for created, item in self._made.items()
            if item.get(key) == created and created not in known and self._matches(item, key, filters)
        ]
        if operation == "DescribeInstances":
            reservations.extend({"Instances": [item]} for item in found)
        else:
            listed.extend(found)

    def _matches(self, item: Item, key: str, filters: Iterable[Params]) -> bool:
        """As EC2's filters by tags, by id and by an instance's state do; of others nothing is imagined."""
        changed = self._tags.get(item[key], {})
        tags = {name: value for name, value in {**tags_of(item.get("Tags")), **changed}.items() if value}
        has = {f"tag:{name}": {value} for name, value in tags.items()}
        has |= {"tag-key": set(tags), _IDS[key]: {item[key]}}
        if key == "InstanceId":
            has["instance-state-name"] = set(self._states[item[key]][-1:])
        return all(has.get(each["Name"], set()) & set(each["Values"]) for each in filters)

    def _amend_instance(self, item: Item) -> None:
        identifier = item["InstanceId"]
        self._amend_tags(item, identifier)
        for volume, attachments in self._attached.items():
            for each in attachments:
                if each.get("InstanceId") == identifier:
                    disk = {"VolumeId": volume, "DeleteOnTermination": False, "Status": "attached"}
                    item.setdefault("BlockDeviceMappings", []).append(
                        {"DeviceName": each["Device"], "Ebs": disk}
                    )
        states = self._states.get(identifier)
        if states:
            item["State"] = {"Name": states[0]}
            if states[1:]:
                states.pop(0)
                ended = {"running": "instance-running", "stopped": "instance-stopped"}
                waiter = ended.get(states[0], "instance-terminated")
                self._waits[identifier] = ("ec2", "wait", waiter, "--instance-ids")
            else:
                self._wait(identifier)

    def _amend_volume(self, item: Item) -> None:
        volume = item["VolumeId"]
        for key, value in self._modified.get(volume, {}).items():
            if key != "VolumeId":
                item[key] = value
        for each in self._attached.get(volume, ()):
            if "detached" in each:
                left = [known for known in item["Attachments"] if known["InstanceId"] != each["detached"]]
                item["Attachments"] = left if each["detached"] else []
            else:
                item["Attachments"] = [*item["Attachments"], dict(each)]
        ended = [
            each for each in item["Attachments"] if self._states.get(each["InstanceId"]) == ["terminated"]
        ]
        if ended:
            item["Attachments"] = [each for each in item["Attachments"] if each not in ended]
            if volume not in self._released and not any(each.get("DeleteOnTermination") for each in ended):
                self._waits[volume] = ("ec2", "wait", "volume-available", "--volume-ids")
            self._released.add(volume)
        if ended or volume in self._attached:
            item["State"] = "in-use" if item["Attachments"] else "available"

    def _amend_tags(self, item: Item, identifier: str) -> None:
        changed = self._tags.get(identifier)
        if changed:
            tags = {**tags_of(item.get("Tags")), **changed}
            item["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items() if value is not None]

    def _modifications(self, params: Params) -> Item | None:
        found = [each for each in params.get("VolumeIds") or () if each in self._modified]
        if not found:
            return None
        for each in found:
            states = f'aws ec2 describe-volumes-modifications --volume-ids "{each}"'
            query = "--query 'VolumesModifications[0].ModificationState' --output text"
            self._script.line(f"until {states} {query} | grep -qE 'optimizing|completed'; do sleep 3; done")
        return {"VolumesModifications": [self._modification(each) for each in found]}

    def _volume_status(self, params: Params) -> Item | None:
        """Of a volume that is made from a snapshot with a rate, the data is waited for."""
        found = [self._made[each] for each in params.get("VolumeIds") or () if each in self._made]
        if not found:
            return None
        for item in found:
            if item.get("VolumeInitializationRate") and item["VolumeId"] not in self._filled:
                self._filled.add(item["VolumeId"])
                asked = f'aws ec2 describe-volume-status --volume-ids "{item["VolumeId"]}"'
                query = "--query 'VolumeStatuses[0].InitializationStatusDetails.Progress' --output text"
                self._script.line(f"until {asked} {query} | grep -qx 100; do sleep 3; done")
        status = {"InitializationStatusDetails": {"Progress": 100, "EstimatedTimeToCompleteInSeconds": 0}}
        return {"VolumeStatuses": [{"VolumeId": item["VolumeId"], **status} for item in found]}

    def _modification(self, volume: str) -> Item:
        params = self._modified[volume]
        return {
            "VolumeId": volume,
            "ModificationState": "optimizing",
            "Progress": 0,
            "StartTime": datetime.now(UTC),
            **{f"Target{key}": value for key, value in params.items() if key != "VolumeId"},
        }

    def _profile(self, params: Params) -> Item | None:
        name = params["InstanceProfileName"]
        if name in self._profiles and name in self._waits:
            self._wait(name)
            self._script.comment(f"{name} is known to IAM now, and to EC2 some seconds later.")
            self._script.line("sleep 15")
        return _named("InstanceProfile", self._profiles.get(name))

    def _role_policy(self, params: Params) -> Item | None:
        role, name = params["RoleName"], params["PolicyName"]
        if (role, name) in self._policies:
            return {"RoleName": role, "PolicyName": name, "PolicyDocument": self._policies[role, name]}
        if role in self._roles:
            raise Refused(NO_ENTITY)
        return None

    def _wait(self, identifier: str) -> None:
        wait = self._waits.pop(identifier, None)
        if wait is not None:
            self._script.run(["aws", *wait, identifier])


def _named(key: str, item: Item | None) -> Item | None:
    return None if item is None else {key: item}


def _tags_in(params: Params, kind: str) -> list[Item]:
    """The tags that a call gives to what it makes of this kind."""
    found = [each for each in params.get("TagSpecifications") or () if each["ResourceType"] == kind]
    return [dict(each) for each in found[0]["Tags"]] if found else []
