"""Carries out a plan: RunInstances or one fleet, then the volumes; nothing is left running when that fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import (
    CapacityError,
    Conflict,
    InstanceEnded,
    PermissionDenied,
    RunctlError,
    Unreachable,
    add_fact,
)
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import (
    CAPACITY,
    QUOTA,
    classify,
    error_code,
    error_message,
    our_errors,
    zones_named,
)
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.idempotence import call_once
from runctl.providers.aws.calls.parse import DATA_DEVICE, INTERRUPTIONS, state_reason, tag_list
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.attachments import attach_volume
from runctl.providers.aws.ec2 import network
from runctl.providers.aws.ec2.fleets import (
    PROFILE_TIMEOUT,
    delete_template,
    is_about_profile,
    is_fleet,
    launch_from_pools,
    nothing_available,
    refusal_of,
    zones_to_try,
)
from runctl.providers.aws.ec2.images import root_device
from runctl.providers.aws.ec2.instances import describe, find_described, priced
from runctl.providers.aws.ec2.releasing import let_go
from runctl.providers.aws.iam.roles import (
    DEFAULT_PROFILE,
    WITHOUT_PROFILE,
    ensure_default_profile,
    ensure_store_profile,
    store_profile,
    unreachable_without_profile,
)
from runctl.providers.capacity import Offer, Pool, Refusal, RefusalListener, no_listener
from runctl.providers.first_boot import compressed, machine_limits, user_data
from runctl.providers.instance_plans import CreatePlan

RUNNING_TIMEOUT = timedelta(minutes=5)
VISIBLE_TIMEOUT = timedelta(minutes=1)

OF_THE_MACHINE = frozenset({tag.MOUNTS, tag.READ_ONLY, tag.LOGIN_USER, tag.NAME})
"""Tags of a machine that its disks do not have: volumes are found by their names."""

_METADATA_KEY = re.compile(r"[A-Za-z0-9+=.,_:@-]+")
"""Tag keys that the metadata service can show; EC2 refuses a launch that wants to show others."""


@dataclass
class _Reached:
    """How far a launch has come, for what must be said or undone when it ends early."""

    instance_id: InstanceId | None = None
    launched_here: bool = False
    asked: bool = False
    """RunInstances was called and has not answered yet."""


def create(
    context: AwsContext, plan: CreatePlan, progress: Progress, refused: RefusalListener = no_listener
) -> Instance:
    """See `Renting.create`."""
    reached = _Reached()
    try:
        with our_errors(context.session.endpoint):
            return _create(context, plan, progress, reached, refused)
    except Exception as error:
        _undo(context, reached, error)
        raise


def run_instances_arguments(plan: CreatePlan, root: str, profile: str | None) -> dict[str, Any]:
    """What RunInstances is called with. Pure: the same plan gives the same call, as its client token demands."""
    ebs = {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    disks = [{"DeviceName": root, "Ebs": {**ebs, "VolumeSize": plan.root_volume_size_gib}}]
    if plan.data_volume_size_gib is not None:
        disks.append({"DeviceName": DATA_DEVICE, "Ebs": {**ebs, "VolumeSize": plan.data_volume_size_gib}})
    tagged = ["instance", "volume", "network-interface"]
    arguments: dict[str, Any] = {
        "ImageId": plan.image,
        "InstanceType": plan.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": plan.client_token,
        "UserData": user_data(
            login_user=plan.login_user,
            limits=machine_limits(
                ttl=plan.ttl,
                budget=plan.budget,
                budget_time=plan.budget_time,
                idle_timeout=plan.idle_timeout,
                unused_for=plan.unused_for,
            ),
            # What fills volumes needs no engine, and installing one takes longer than many a filling.
            docker=tag.HELPER_FOR not in plan.tags,
        ),
        "BlockDeviceMappings": disks,
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": plan.imds_hop_limit,
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "enabled" if all(map(_METADATA_KEY.fullmatch, plan.tags)) else "disabled",
        },
        "InstanceInitiatedShutdownBehavior": "terminate",
    }
    if plan.market is Market.SPOT:
        # Without MaxPrice AWS caps at the on-demand price; a lower bid only brings more interruptions.
        arguments["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
        tagged.append("spot-instances-request")
    if plan.key_name:
        arguments["KeyName"] = plan.key_name
    if plan.security_groups:
        arguments["SecurityGroupIds"] = list(plan.security_groups)
    if plan.subnet:
        arguments["SubnetId"] = plan.subnet
    elif plan.zone:
        arguments["Placement"] = {"AvailabilityZone": plan.zone}
    if profile:
        key = "Arn" if profile.startswith("arn:") else "Name"
        arguments["IamInstanceProfile"] = {key: profile}
    disk_tags = {k: v for k, v in plan.tags.items() if k not in OF_THE_MACHINE}
    arguments["TagSpecifications"] = [
        {"ResourceType": kind, "Tags": tag_list(disk_tags if kind == "volume" else plan.tags)}
        for kind in tagged
    ]
    return arguments


def _create(
    context: AwsContext, plan: CreatePlan, progress: Progress, reached: _Reached, refused: RefusalListener
) -> Instance:
    described = _launched_before(context, plan)
    if described is None:
        let_go(context, plan.volumes, progress)
        described = _launch(context, plan, progress, reached, refused)
    elif is_fleet(plan.market, plan.offers):
        # A command that was killed after its fleet has left the template.
        delete_template(context, plan)
    reached.instance_id = instance_id = InstanceId(described["InstanceId"])
    if plan.volumes:
        described = wait_running(context, instance_id, RUNNING_TIMEOUT, progress)
        for mount in plan.volumes:
            attach_volume(context, VolumeId(mount.volume), described, progress)
            described = describe(context, instance_id)
    return priced(context, described)


def _launch(
    context: AwsContext, plan: CreatePlan, progress: Progress, reached: _Reached, refused: RefusalListener
) -> Mapping[str, Any]:
    profile = profile_of(context, plan, progress)
    arguments = run_instances_arguments(plan, root_device(context.session, plan.image), profile)
    if is_fleet(plan.market, plan.offers):
        reached.asked = True
        try:
            (instance_id,) = launch_from_pools(
                context, plan, arguments, lambda: _ids_by_plan(context, plan), progress, refused
            )
        except Exception as error:
            if error_code(error) or isinstance(error, RunctlError):
                reached.asked = False
            raise
        reached.instance_id, reached.launched_here, reached.asked = instance_id, True, False
        progress.detail(f"EC2 calls it {instance_id}")
        return visible(context, instance_id)
    arguments["UserData"] = compressed(arguments["UserData"])
    described = _run_instances(context, plan, arguments, progress, reached, refused)
    reached.instance_id = InstanceId(described["InstanceId"])
    reached.launched_here, reached.asked = True, False
    progress.detail(f"EC2 calls it {reached.instance_id}")
    return described


def _run_instances(
    context: AwsContext,
    plan: CreatePlan,
    arguments: Mapping[str, Any],
    progress: Progress,
    reached: _Reached,
    refused: RefusalListener,
) -> Mapping[str, Any]:
    """In the plan's zone; where EC2 chooses it and has no capacity there, in one zone after the other."""
    refusals: list[Refusal] = []
    left: list[Offer] | None = None
    while True:
        offer = left.pop(0) if left else None
        zone = plan.zone if offer is None else offer.pool.zone
        progress.step(f"launching {plan.instance_type} ({plan.market.value}) in {zone or plan.region}")
        try:
            return _run_once(context, plan, in_zone(arguments, offer), progress, reached)
        except Exception as error:
            code = error_code(error)
            if code not in CAPACITY | QUOTA:
                raise
            failed = zone or next(iter(zones_named(str(error))), "")
            if failed:
                pool = Pool(plan.instance_type, failed)
                refusals.append(refusal_of(pool, plan.market, code, error_message(error)))
                refused(refusals[-1])
            if plan.zone is not None or code in QUOTA:
                raise
            if left is None:
                left = zones_to_try(error_message(error), plan.offers, {failed})
            if not left:
                raise nothing_available(plan.market, plan.offers, refusals) from error


def in_zone(arguments: Mapping[str, Any], offer: Offer | None) -> dict[str, Any]:
    """The same launch in the zone of an offer, as a request of its own; without one it is as it was. Pure."""
    if offer is None:
        return dict(arguments)
    token = f"{arguments['ClientToken']}-{offer.pool.zone}"
    return {**arguments, "ClientToken": token, "SubnetId": offer.subnet}


def _run_once(
    context: AwsContext, plan: CreatePlan, arguments: dict[str, Any], progress: Progress, reached: _Reached
) -> Mapping[str, Any]:
    for _ in attempts(context.clock, PROFILE_TIMEOUT):
        try:
            reached.asked = True
            described: Mapping[str, Any] = call_once(
                lambda: context.session.ec2.run_instances(**arguments)["Instances"][0],
                lambda: _by_plan(context, plan),
                context.clock,
            )
        except Exception as error:
            if error_code(error):
                reached.asked = False
            if is_about_profile(error_code(error), str(error)):
                progress.update("EC2 does not know the new instance profile yet")
                failure = error
                continue
            raise
        return described
    raise failure


def visible(context: AwsContext, instance_id: InstanceId) -> Mapping[str, Any]:
    """The instance, as soon as EC2 shows what it has just named."""
    for _ in attempts(context.clock, VISIBLE_TIMEOUT):
        described = find_described(context, instance_id)
        if described is not None:
            return described
    raise Unreachable(
        f"EC2 has launched {instance_id} and does not show it after {time_span(VISIBLE_TIMEOUT)}",
        hint=f"runctl aws wait {instance_id}",
    )


def wait_running(
    context: AwsContext, instance_id: InstanceId, timeout: timedelta, progress: Progress
) -> Mapping[str, Any]:
    """The described instance, once EC2 says that it runs.

    Raises `Conflict` or the reason's own error when it ends or stops instead, `Unreachable` when the time is up.
    """
    progress.step(f"waiting for {instance_id} to run")
    described: Mapping[str, Any] | None = None
    for _ in attempts(context.clock, timeout):
        described = find_described(context, instance_id)
        if described is None:
            # Right after a launch EC2 may not know the instance that it has just named.
            continue
        state = InstanceState(described["State"]["Name"])
        if state is InstanceState.RUNNING:
            return described
        if state is not InstanceState.PENDING:
            raise ended(described)
        progress.update(f"{instance_id} is {state.value}")
    seen = "pending" if described is not None else "not visible"
    raise Unreachable(
        f"{instance_id} is {seen}, not running, after {time_span(timeout)}",
        hint="EC2 is slow or stuck: try again, or another zone or instance type",
    )


def ended(described: Mapping[str, Any]) -> RunctlError:
    """The error for an instance that is no longer starting; with EC2's reason. Pure."""
    instance_id, state = described["InstanceId"], InstanceState(described["State"]["Name"])
    reason = state_reason(described) or "EC2 gives no reason"
    code = described.get("StateReason", {}).get("Code", "")
    if state.is_over:
        known = classify(code.partition(".")[2], reason, f"RunInstances ({instance_id})")
        if isinstance(known, CapacityError):
            return known
        hint = "create another: runctl aws create"
        if code in INTERRUPTIONS:
            return InstanceEnded(
                f"{instance_id} has ended ({state.value}): the provider took it back ({reason})",
                hint=hint,
                interrupted=True,
            )
        if code == "Client.InternalError":
            hint = "often the KMS key that encrypts its disks cannot be used: check the account's default EBS key"
        return Conflict(
            f"{instance_id} has ended ({state.value}): {reason}", hint=hint, code="instance-ended"
        )
    return Conflict(
        f"{instance_id} is {state.value}: {reason}",
        hint=f"runctl aws start {instance_id}",
        code="instance-stopped",
    )


def _launched_before(context: AwsContext, plan: CreatePlan) -> Mapping[str, Any] | None:
    """The instance that this very plan created before."""
    found = _by_plan(context, plan)
    if found is not None and InstanceState(found["State"]["Name"]).is_over:
        raise Conflict(
            f"this plan was carried out before, and its instance {found['InstanceId']} has ended",
            hint="make a new plan",
            code="instance-ended",
        )
    return found


def _by_plan(context: AwsContext, plan: CreatePlan) -> Mapping[str, Any] | None:
    items = describe_exactly(
        context.session.ec2, "describe_instances", {f"tag:{tag.INTENT}": [plan.client_token]}
    )
    return items[0] if items else None


def _ids_by_plan(context: AwsContext, plan: CreatePlan) -> tuple[InstanceId, ...]:
    found = _by_plan(context, plan)
    return () if found is None else (InstanceId(found["InstanceId"]),)


def profile_of(context: AwsContext, plan: CreatePlan, progress: Progress) -> str | None:
    """The instance profile of the plan, made where that is to be; ``None``: none, as it may not be made."""
    if plan.writes and plan.instance_profile == store_profile(plan.writes):
        ensure_store_profile(context.session, plan.instance_profile, plan.writes, context.clock, progress)
    if plan.instance_profile != DEFAULT_PROFILE:
        return plan.instance_profile
    try:
        ensure_default_profile(context.session, context.clock, progress)
    except PermissionDenied as error:
        groups = context.session.ec2.describe_security_groups(GroupIds=list(plan.security_groups))
        if not plan.security_groups or not network.lets_ssh_in(groups["SecurityGroups"]):
            raise unreachable_without_profile(error.message) from error
        progress.warn(f"{error.message}; {WITHOUT_PROFILE}")
        return None
    return DEFAULT_PROFILE


def _undo(context: AwsContext, reached: _Reached, error: Exception) -> None:
    """End the instance that this call created, and say in the error what is left."""
    instance_id = reached.instance_id
    if instance_id is None:
        if reached.asked:
            add_fact(error, "the launch may still have succeeded", "check: runctl aws list")
        return
    if not reached.launched_here:
        return
    try:
        context.session.ec2.terminate_instances(InstanceIds=[instance_id])
    except Exception as failure:  # noqa: BLE001 (whatever it is, the machine may be running and must be named)
        add_fact(
            error,
            f"{instance_id} IS STILL RUNNING, it could not be terminated ({failure})",
            f"end it: runctl aws terminate {instance_id}",
        )
        return
    add_fact(error, f"the new instance {instance_id} was terminated: nothing is left running")
