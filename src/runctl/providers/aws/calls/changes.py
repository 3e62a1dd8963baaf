"""Every call to AWS that changes something is written to the journal, at the one place that all calls pass.

What a call means for a person stands in one table by operation. An operation that is neither there nor a reading one
is told by its bare name, so that a new call can be badly worded but never unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runctl.core import tags as tag
from runctl.core.journal import Change, Effect, Entry, Find, Journal
from runctl.providers.aws.calls.parse import tags_of

Params = Mapping[str, Any]
Describe = Callable[[Params, Params | None], Change]
"""From a call's parameters and its answer (``None``: none yet) to what it changes."""

READING = ("Describe", "Get", "List", "Head", "Batch", "AssumeRole", "Decode", "Search")
BATCHES = frozenset({"BatchDeleteImage"})
"""Operations that begin as reading ones do, and change something."""
LAUNCHING = frozenset({"RunInstances", "CreateFleet"})
FOUND_BY_INTENT = LAUNCHING | {"CreateVolume", "CopyVolumes", "CreateSnapshot"}
BOOKKEEPING = frozenset(
    {
        # Tags, and the parts of what another line of the table tells of.
        "CreateTags",
        "DeleteTags",
        "AddRoleToInstanceProfile",
        "AttachRolePolicy",
        "PutRolePolicy",
        "DeleteRolePolicy",
        "DetachRolePolicy",
        "RemoveRoleFromInstanceProfile",
        "PutBucketEncryption",
        "PutBucketLifecycleConfiguration",
        "PutBucketTagging",
        "PutPublicAccessBlock",
        "PutLifecyclePolicy",
        "SuspendProcesses",
        "CreateLaunchTemplateVersion",
        "AuthorizeSecurityGroupIngress",
        # A disk that was attached is to go with its machine: the attachment is told of.
        "ModifyInstanceAttribute",
        "PutScheduledUpdateGroupAction",
        # The role that AWS itself acts by: once for an account, and AWS's own.
        "CreateServiceLinkedRole",
        # What passes through the staging bucket expires there.
        "PutObject",
        "DeleteObject",
        "DeleteObjects",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        # What is done on a machine is told by whoever does it there.
        "SendCommand",
        "CancelCommand",
        "SendSSHPublicKey",
        "StartSession",
        "ResumeSession",
        "TerminateSession",
    }
)


def watch(client: Any, journal: Journal) -> None:
    """Every call of the boto3 client that changes something is in the journal from now on."""
    events, key = client.meta.events, f"runctl-{id(journal)}"

    def begun(params: Params, model: Any, context: dict[str, Any], **_: Any) -> None:
        describe = describer(model.name)
        if describe is not None and not params.get("DryRun"):
            find = _find(client, model.name, params)
            context[key] = (params, describe, journal.begin(describe(params, None), find))

    def answered(http_response: Any, parsed: Params, context: Mapping[str, Any], **_: Any) -> None:
        if key not in context:
            return
        params, describe, entry = context[key]
        if _came_to_nothing(params, parsed):
            entry.refused()
            return
        _settle(entry, http_response.status_code, lambda: describe(params, parsed))

    events.register("before-parameter-build.*.*", begun)
    events.register_first("after-call.*.*", answered)


def describer(operation: str) -> Describe | None:
    """How a change of that operation is told; ``None`` for one that changes nothing worth telling. Pure."""
    if operation in BOOKKEEPING or (operation.startswith(READING) and operation not in BATCHES):
        return None
    return CHANGES.get(operation) or _unnamed(operation)


def _settle(entry: Entry, status: int, change: Callable[[], Change]) -> None:
    if status < 300:
        entry.done(change())
    elif status < 500:
        entry.refused()
    # A server's own fault says nothing of whether it was carried out.


def _came_to_nothing(params: Params, answer: Params) -> bool:
    """Whether it is a fleet that no pool had an instance for: AWS answers that with success."""
    return "LaunchTemplateConfigs" in params and "FleetId" in answer and not answer.get("Instances")


def _unnamed(operation: str) -> Describe:
    def describe(_params: Params, answer: Params | None) -> Change:
        was = "was called" if answer is not None else "was called, and may have been carried out"
        return Change(operation, (), Effect.CHANGED, f"{operation} {was}")

    return describe


def _instance(params: Params, answer: Params | None) -> Change:
    what = str(params.get("InstanceType"))
    # A launch that is tried again elsewhere has a client token of its own each time.
    token = _created_tags(params).get(tag.INTENT) or str(params.get("ClientToken", ""))
    if answer is None:
        return Change(
            "instance",
            (),
            Effect.CREATED,
            f"an instance ({what}) may exist, and is billed if it does",
            check="runctl aws list",
            token=token,
        )
    instance_id = answer["Instances"][0]["InstanceId"]
    return Change(
        "instance",
        (instance_id,),
        Effect.CREATED,
        f"instance {instance_id} ({what}) exists and is billed",
        go_on=f"runctl aws wait {instance_id}",
        undo=f"runctl aws terminate {instance_id}",
        token=token,
    )


def _fleet(params: Params, answer: Params | None) -> Change:
    """What matters of a fleet of the type instant is its instance."""
    overrides = [item for config in params["LaunchTemplateConfigs"] for item in config["Overrides"]]
    types = " or ".join(dict.fromkeys(str(item.get("InstanceType")) for item in overrides))
    launch = {"InstanceType": types, "TagSpecifications": params.get("TagSpecifications")}
    if answer is None:
        return _instance(launch, None)
    launched = [
        {**launch, "InstanceType": group.get("InstanceType", types), "InstanceId": instance_id}
        for group in answer["Instances"]
        for instance_id in group["InstanceIds"]
    ]
    return _instance(launched[0], {"Instances": launched})


def _template(params: Params, answer: Params | None) -> Change:
    name = params["LaunchTemplateName"]
    state = "exists" if answer is not None else "may exist"
    run = _created_tags(params).get(tag.RUN)
    if run is not None:
        fact = f"launch template {name} {state}; it costs nothing"
        return Change("launch template", (name,), Effect.CREATED, fact, undo=f"runctl runs stop {run}")
    return Change(
        "launch template",
        (name,),
        Effect.CREATED,
        f"launch template {name} {state}; it costs nothing, and the next command that needs several pools deletes it",
    )


def _group(params: Params, answer: Params | None) -> Change:
    """It has no machine yet: see `_group_size`."""
    name, tags = params["AutoScalingGroupName"], tags_of(params.get("Tags"))
    state = "exists" if answer is not None else "may exist"
    return Change(
        "group",
        (name,),
        Effect.CREATED,
        f"Auto Scaling group {name} {state}",
        undo=f"runctl runs stop {tags.get(tag.RUN, 'RUN')}",
        token=tags.get(tag.INTENT, ""),
    )


def _group_size(params: Params, answer: Params | None) -> Change:
    name, size = params["AutoScalingGroupName"], params["DesiredCapacity"]
    if not size:
        state = "rents nothing more" if answer is not None else "may rent nothing more"
        return Change("group size", (name,), Effect.GONE, f"Auto Scaling group {name} {state}")
    state = "rents its machine, which is billed" if answer is not None else "may be renting its machine"
    return Change(
        "group size",
        (name,),
        Effect.CREATED,
        f"Auto Scaling group {name} {state}",
        check="runctl runs list",
    )


def _volume(params: Params, answer: Params | None) -> Change:
    name = _created_tags(params).get(tag.NAME)
    what = ", ".join(
        part
        for part in (
            name,
            f"{params['Size']} GiB" if params.get("Size") else "",
            params.get("AvailabilityZone"),
        )
        if part
    )
    token = str(params.get("ClientToken", ""))
    if answer is None:
        return Change(
            "volume",
            (),
            Effect.CREATED,
            f"a volume ({what}) may exist, and is billed if it does"
            if what
            else "a volume may exist, and is billed if it does",
            check="runctl aws ebs list",
            token=token,
        )
    item = answer["Volumes"][0] if "Volumes" in answer else answer
    volume_id = item["VolumeId"]
    return Change(
        "volume",
        (volume_id,),
        Effect.CREATED,
        f"volume {volume_id}{f' ({what})' if what else ''} exists and is billed",
        undo=f"runctl aws ebs delete {volume_id}",
        token=token,
    )


def _snapshot(params: Params, answer: Params | None) -> Change:
    tags = _created_tags(params)
    name, token, of = tags.get(tag.NAME), tags.get(tag.INTENT, ""), params["VolumeId"]
    what = f"{name}, of {of}" if name else f"of {of}"
    if answer is None:
        return Change(
            "snapshot",
            (),
            Effect.CREATED,
            f"a snapshot ({what}) may exist, and is billed if it does",
            check="runctl aws ebs snapshots",
            token=token,
        )
    snapshot_id = answer["SnapshotId"]
    return Change(
        "snapshot",
        (snapshot_id,),
        Effect.CREATED,
        f"snapshot {snapshot_id} ({what}) exists and is billed; AWS completes it by itself",
        undo=f"runctl aws ebs snapshot-delete {snapshot_id}",
        token=token,
    )


def _attachment(params: Params, answer: Params | None) -> Change:
    volume, instance = params["VolumeId"], params["InstanceId"]
    state = "is attached" if answer is not None else "may be attached"
    return Change(
        "attachment",
        (volume, instance),
        Effect.CREATED,
        f"volume {volume} {state} to {instance}",
        undo=f"runctl aws ebs detach {volume}",
    )


def _detachment(params: Params, answer: Params | None) -> Change:
    volume, instance = params["VolumeId"], params.get("InstanceId", "its instance")
    state = "is being detached" if answer is not None else "may be detached"
    return Change(
        "attachment",
        (volume, instance),
        Effect.GONE,
        f"volume {volume} {state} from {instance}",
        undo=f"runctl aws ebs attach {volume} {instance}",
    )


def _modification(params: Params, answer: Params | None) -> Change:
    volume = params["VolumeId"]
    wanted = [
        f"{params[key]:,} {unit}".strip() if isinstance(params[key], int) else str(params[key])
        for key, unit in (("Size", "GiB"), ("VolumeType", ""), ("Iops", "IOPS"), ("Throughput", "MiB/s"))
        if key in params
    ]
    state = "is being changed" if answer is not None else "may be being changed"
    return Change(
        "modification", (volume,), Effect.CHANGED, f"volume {volume} {state} to {', '.join(wanted)}"
    )


def _deleted(kind: str, *keys: str) -> Describe:
    """``keys`` are the parameters that may say which one."""

    def describe(params: Params, answer: Params | None) -> Change:
        state = "is deleted" if answer is not None else "may be deleted"
        given = next(params[key] for key in keys if key in params)
        named = ", ".join(given) if isinstance(given, list) else given
        return Change(kind, (named,), Effect.GONE, f"{kind} {named} {state}")

    return describe


def _instances_become(effect: Effect, done: str, maybe: str, undo: str, kind: str) -> Describe:
    def describe(params: Params, answer: Params | None) -> Change:
        ids = tuple(params["InstanceIds"])
        fact = f"instance {', '.join(ids)} {done if answer is not None else maybe}"
        return Change(kind, ids, effect, fact, undo=f"{undo} {' '.join(ids)}" if undo else "")

    return describe


def _named(kind: str, noun: str, key: str, effect: Effect = Effect.CREATED) -> Describe:
    """What is made once, under a name that is known, and finished by the next command that needs it."""

    def describe(params: Params, answer: Params | None) -> Change:
        if effect is Effect.GONE:
            state = "is deleted" if answer is not None else "may be deleted"
        else:
            state = "exists" if answer is not None else "may exist"
            state += ", and is finished by the next command that needs it"
        return Change(kind, (params[key],), effect, f"{noun} {params[key]} {state}")

    return describe


def _free_group(noun: str) -> Describe:
    """A group that machines of one run are in; it costs nothing."""

    def describe(params: Params, answer: Params | None) -> Change:
        name = params["GroupName"]
        # A security group is deleted by its id.
        subject = str(answer["GroupId"]) if answer is not None and noun == "security group" else str(name)
        state = "exists" if answer is not None else "may exist"
        return Change(
            noun,
            (subject,),
            Effect.CREATED,
            f"{noun} {name} {state}; it costs nothing",
            undo="runctl resources cleanup",
        )

    return describe


def _images(params: Params, answer: Params | None) -> Change:
    state = "are deleted" if answer is not None else "may be deleted"
    repository = params["repositoryName"]
    return Change("images", (), Effect.GONE, f"{len(params['imageIds'])} images of {repository} {state}")


CHANGES: Mapping[str, Describe] = {
    "RunInstances": _instance,
    "CreateFleet": _fleet,
    "CreateLaunchTemplate": _template,
    "CreateAutoScalingGroup": _group,
    "SetDesiredCapacity": _group_size,
    "DeleteAutoScalingGroup": _deleted("group", "AutoScalingGroupName"),
    "DeleteLaunchTemplate": _deleted("launch template", "LaunchTemplateName", "LaunchTemplateId"),
    "DeleteFleets": _deleted("fleet", "FleetIds"),
    "CancelSpotInstanceRequests": _deleted("spot request", "SpotInstanceRequestIds"),
    "DeleteKeyPair": _deleted("key pair", "KeyPairId", "KeyName"),
    "DeleteSecurityGroup": _deleted("security group", "GroupId", "GroupName"),
    "DeleteBucket": _deleted("bucket", "Bucket"),
    "DeleteRepository": _deleted("image repository", "repositoryName"),
    "TerminateInstances": _instances_become(
        Effect.GONE, "is being terminated", "may be being terminated", "", "instance"
    ),
    "StopInstances": _instances_become(
        Effect.GONE, "is being stopped", "may be being stopped", "runctl aws start", "running"
    ),
    "StartInstances": _instances_become(
        Effect.CREATED, "is starting, and billed", "may be starting, and billed", "runctl aws stop", "running"
    ),
    "CreateVolume": _volume,
    "CopyVolumes": _volume,
    "CreateSnapshot": _snapshot,
    "AttachVolume": _attachment,
    "DetachVolume": _detachment,
    "ModifyVolume": _modification,
    "DeleteVolume": _deleted("volume", "VolumeId"),
    "DeleteSnapshot": _deleted("snapshot", "SnapshotId"),
    "CreateSecurityGroup": _free_group("security group"),
    "CreatePlacementGroup": _free_group("placement group"),
    "DeletePlacementGroup": _deleted("placement group", "GroupName"),
    "CreateRole": _named("role", "IAM role", "RoleName"),
    "DeleteRole": _named("role", "IAM role", "RoleName", Effect.GONE),
    "CreateInstanceProfile": _named("profile", "IAM instance profile", "InstanceProfileName"),
    "DeleteInstanceProfile": _named("profile", "IAM instance profile", "InstanceProfileName", Effect.GONE),
    "CreateBucket": _named("bucket", "bucket", "Bucket"),
    "CreateRepository": _named("repository", "image repository", "repositoryName"),
    "BatchDeleteImage": _images,
}


def _created_tags(params: Params) -> dict[str, str]:
    specifications = params.get("TagSpecifications") or ()
    return tags_of(specifications[0]["Tags"]) if specifications else {}


def _find(client: Any, operation: str, params: Params) -> Find | None:
    """Looks for what an unanswered call has made, by the tag that it was to be made with."""
    token = _created_tags(params).get(tag.INTENT)
    if token is None or operation not in {
        "RunInstances",
        "CreateFleet",
        "CreateVolume",
        "CopyVolumes",
        "CreateSnapshot",
    }:
        return None
    describe = CHANGES[operation]
    filters = [{"Name": f"tag:{tag.INTENT}", "Values": [token]}]

    def find() -> Change | None:
        if operation in LAUNCHING:
            reservations = client.describe_instances(Filters=filters)["Reservations"]
            found = [item for reservation in reservations for item in reservation["Instances"]]
            return _instance(found[0], {"Instances": found}) if found else None
        if operation == "CreateSnapshot":
            found = client.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
        else:
            found = client.describe_volumes(Filters=filters)["Volumes"]
        return describe(params, found[0]) if found else None

    return find
