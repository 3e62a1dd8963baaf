"""Makes what a run's group needs, in the order in which a crash at any point leaves nothing that is billed: the role,
the network of several machines, the template, the group without a machine, and last the size that rents. And ends all
of it, the rights last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from runctl.agent.after_run import ON_DEMAND_ACTION
from runctl.agent.object_store import parse_source
from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, Unreachable, UsageError
from runctl.core.ids import InstanceId, RunId
from runctl.core.machine_models import InstanceState, Market
from runctl.core.progress import Progress
from runctl.core.waiting import attempts
from runctl.providers.abilities.groups import GroupPlan, MachineGroup
from runctl.providers.aws.autoscaling.first_boot import take_up_script
from runctl.providers.aws.autoscaling.planning import (
    END_ACTION,
    SUSPENDED,
    group_arguments,
    name_of,
    run_tags,
    template_arguments,
)
from runctl.providers.aws.autoscaling.rights import delete_role, ensure_role, ensure_service_roles, run_policy
from runctl.providers.aws.calls.errors import error_code, error_message
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import tags_of, utc
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.fleets import PROFILE_TIMEOUT
from runctl.providers.aws.ec2.images import root_device
from runctl.providers.aws.ec2.launch import run_instances_arguments
from runctl.providers.aws.ec2.private_network import make_network, remove_network_of
from runctl.providers.first_boot import LIMIT_BYTES, compressed

BUSY = frozenset({"ResourceContention", "ScalingActivityInProgress"})
"""The group is being changed: the same call is to be made again."""
IN_USE = frozenset({"DependencyViolation", "InvalidPlacementGroup.InUse"})
"""A machine that has just ended is still in the network."""
BUSY_TIMEOUT = timedelta(minutes=2)
ENDED_TIMEOUT = timedelta(minutes=5)
"""How long a machine may take to shut down before its role goes."""
NO_TEMPLATE = frozenset({"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"})
LIVE = [state.value for state in InstanceState if not state.is_over]


def create(context: AwsContext, plan: GroupPlan, progress: Progress) -> MachineGroup:
    """See `Groups.create`."""
    session, run_id = context.session, plan.take_up.run_id
    described = described_group(context, plan.name)
    if described is not None:
        _check_own(described, run_id)
    else:
        _ensure_role(context, plan, progress)
        template = _ensure_template(context, _in_network(context, plan, progress), progress)
        progress.step(f"creating the Auto Scaling group {plan.name}")
        ensure_service_roles(session, spot=plan.machine.market is Market.SPOT)
        _create_group(context, plan, template, progress)
    scaling = session.autoscaling
    if plan.on_demand_from is not None:
        _ensure_second(context, plan, progress)
    for name in _names(plan):
        known = (described_group(context, name) or {}).get("SuspendedProcesses", ())
        if not {str(each["ProcessName"]) for each in known}.issuperset(SUSPENDED):
            scaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=list(SUSPENDED))
        if plan.ends_at is not None:
            scaling.put_scheduled_update_group_action(
                AutoScalingGroupName=name,
                ScheduledActionName=END_ACTION,
                StartTime=plan.ends_at,
                MinSize=0,
                MaxSize=0,
                DesiredCapacity=0,
            )
    progress.step(
        f"letting {plan.name} rent {'its machine' if plan.count == 1 else f'{plan.count} machines'}"
    )
    when_free(
        context,
        lambda: scaling.set_desired_capacity(AutoScalingGroupName=plan.name, DesiredCapacity=plan.count),
    )
    found = described_group(context, plan.name)
    if found is None:
        raise NotFound(
            f"the Auto Scaling group {plan.name} is gone, just after it was made",
            hint="somebody has deleted it; the same command makes it again",
        )
    return group_of(found)


def _in_network(context: AwsContext, plan: GroupPlan, progress: Progress) -> GroupPlan:
    """The plan whose machines are in the network that was made for several of them."""
    if plan.network is None:
        return plan
    progress.step("making a network for the machines")
    machine = plan.machine
    group = make_network(context, machine.client_token, plan.subnets[0], plan.network, run_tags(plan))
    return replace(plan, machine=replace(machine, security_groups=(*machine.security_groups, group)))


def _names(plan: GroupPlan) -> tuple[str, ...]:
    return (plan.name,) if plan.on_demand_from is None else (plan.name, plan.second)


def _ensure_second(context: AwsContext, plan: GroupPlan, progress: Progress) -> None:
    """The second group exists, and begins when it was asked to."""
    described = described_group(context, plan.second)
    if described is not None:
        _check_own(described, plan.take_up.run_id)
    else:
        first: Any = described_group(context, plan.name)
        template = first["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
        _create_group(context, plan, template["LaunchTemplateId"], progress, second=True)
    context.session.autoscaling.put_scheduled_update_group_action(
        AutoScalingGroupName=plan.second,
        ScheduledActionName=ON_DEMAND_ACTION,
        StartTime=plan.on_demand_from,
        MinSize=0,
        MaxSize=1,
        DesiredCapacity=1,
    )


def _ensure_role(context: AwsContext, plan: GroupPlan, progress: Progress) -> None:
    if plan.role is None:
        return
    identity = context.session.identity
    policy = run_policy(
        run_id=plan.take_up.run_id,
        partition=identity.partition,
        region=plan.machine.region,
        account=identity.account,
        volumes=[mount.volume for mount in plan.machine.volumes],
        writes=plan.machine.writes,
        reads=plan.reads,
        pulls=plan.pulls,
        read_only={mount.volume for mount in plan.machine.volumes if mount.read_only},
    )
    ensure_role(context.session, plan.role, policy, run_tags(plan), context.clock, progress)


def _ensure_template(context: AwsContext, plan: GroupPlan, progress: Progress) -> str:
    """Its id. One that an earlier call has left is used if its machines do the same at their first boot, else replaced:
    they would look for another program."""
    progress.step(f"creating the launch template {plan.name}")
    launch = run_instances_arguments(
        plan.machine, root_device(context.session, plan.machine.image), plan.machine.instance_profile
    )
    boot: str = launch["UserData"]
    store_region = _store_region(context, plan)

    def user_data(group: str) -> str:
        return boot + take_up_script(
            plan.take_up,
            group=group,
            login_user=plan.machine.login_user,
            region=plan.machine.region,
            store_region=store_region,
        )

    launch["UserData"] = user_data(plan.name)
    if len(compressed(launch["UserData"])) > LIMIT_BYTES:
        raise UsageError(
            f"the address {plan.take_up.url} is too long for a machine's user data",
            hint="use a shorter prefix",
        )
    ec2, arguments = context.session.ec2, template_arguments(plan, launch)
    found = _described_template(context, plan.name)
    if found is not None:
        if tags_of(found.get("Tags")).get(tag.RUN) != plan.take_up.run_id:
            raise PermissionDenied(
                f"the launch template {plan.name} is not this run's, and is left alone",
                hint="run the command again: it takes another name",
                code="not-ours",
            )
        versions: Any = ec2.describe_launch_template_versions(LaunchTemplateName=plan.name)
        (created, *_) = versions["LaunchTemplateVersions"]
        if created["LaunchTemplateData"].get("UserData") == arguments["LaunchTemplateData"]["UserData"]:
            return str(found["LaunchTemplateId"])
        ec2.delete_launch_template(LaunchTemplateName=plan.name)
        # The token has made the one that is gone.
        del arguments["ClientToken"]
    answer: Any = ec2.create_launch_template(**arguments)
    created = str(answer["LaunchTemplate"]["LaunchTemplateId"])
    if plan.on_demand_from is not None:
        # The same but for the group that its machines are told they are of.
        launch["UserData"] = user_data(plan.second)
        data = template_arguments(plan, launch)["LaunchTemplateData"]
        ec2.create_launch_template_version(LaunchTemplateId=created, LaunchTemplateData=data)
    return created


def _store_region(context: AwsContext, plan: GroupPlan) -> str:
    """Where the bucket is."""
    bucket = parse_source(plan.take_up.url).bucket
    answer: Any = context.session.s3.head_bucket(Bucket=bucket)
    return str(answer.get("BucketRegion") or plan.machine.region)


def _create_group(
    context: AwsContext, plan: GroupPlan, template: str, progress: Progress, *, second: bool = False
) -> None:
    arguments = group_arguments(plan, template, second=second)
    for _ in attempts(context.clock, PROFILE_TIMEOUT):
        try:
            context.session.autoscaling.create_auto_scaling_group(**arguments)
        except Exception as error:
            code, message = error_code(error), error_message(error)
            if code == "AlreadyExists":
                found = described_group(context, arguments["AutoScalingGroupName"])
                if found is not None:
                    _check_own(found, plan.take_up.run_id)
                    return
                failure = error
                continue
            if code == "ValidationError" and "rofile" in message:
                progress.update("EC2 does not know the new instance profile yet")
                failure = error
                continue
            raise
        return
    raise failure


def _check_own(described: Mapping[str, Any], run_id: RunId) -> None:
    group = group_of(described)
    if group.run_id != run_id:
        raise PermissionDenied(
            f"the Auto Scaling group {group.id} is not this run's, and is left alone",
            hint="run the command again: it takes another name",
            code="not-ours",
        )
    if group.is_ending:
        raise Conflict(
            f"the Auto Scaling group {group.id} is being deleted",
            hint="run the same command again in a minute",
            code="group-ending",
        )


def end(context: AwsContext, run_id: RunId, progress: Progress) -> tuple[str, ...]:
    """See `Groups.end`."""
    scaling, name, gone = context.session.autoscaling, name_of(run_id), []
    own = [each for each in described_groups(context) if group_of(each).run_id == run_id]
    # Those besides it first, and its own last: it is what the others are found by.
    for described in sorted(own, key=lambda each: each["AutoScalingGroupName"] == name):
        group = str(described["AutoScalingGroupName"])
        progress.step(f"ending the Auto Scaling group {group}")
        if not group_of(described).is_ending:

            def to_zero(group: str = group) -> object:
                return scaling.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=0)

            def delete(group: str = group) -> object:
                return scaling.delete_auto_scaling_group(AutoScalingGroupName=group, ForceDelete=True)

            _unless_gone(lambda: when_free(context, to_zero))
            _unless_gone(lambda: when_free(context, delete))
        gone.append(f"Auto Scaling group {group}")
    if _delete_template(context, name, run_id):
        gone.append(f"launch template {name}")
    _wait_for_machines(context, run_id, progress)
    when_free(context, lambda: gone.extend(remove_network_of(context, run_id)), IN_USE)
    if delete_role(context.session, name, run_id):
        gone.append(f"IAM role {name}")
    return tuple(gone)


def _delete_template(context: AwsContext, name: str, run_id: RunId) -> bool:
    found = _described_template(context, name)
    if found is None or tags_of(found.get("Tags")).get(tag.RUN) != run_id:
        return False
    try:
        context.session.ec2.delete_launch_template(LaunchTemplateName=name)
    except Exception as error:
        if error_code(error) not in NO_TEMPLATE:
            raise
        return False
    return True


def _described_template(context: AwsContext, name: str) -> Mapping[str, Any] | None:
    try:
        found = context.session.ec2.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"]
    except Exception as error:
        if error_code(error) not in NO_TEMPLATE:
            raise
        return None
    return found[0] if found else None


def _wait_for_machines(context: AwsContext, run_id: RunId, progress: Progress) -> None:
    """They have ended: until then they need their rights, to let go of their volumes."""
    for _ in attempts(context.clock, ENDED_TIMEOUT):
        left = live_machines(context, run_id)
        if not left:
            return
        progress.update(f"waiting for {', '.join(left)} to end")
    raise Unreachable(
        f"{', '.join(left)} has not ended {ENDED_TIMEOUT.total_seconds() / 60:g} minutes after its group was deleted",
        hint=f"see whether it ends: runctl aws status {left[0]}; then run the same command again",
    )


def live_machines(context: AwsContext, run_id: RunId) -> tuple[InstanceId, ...]:
    """See `Groups.machines`."""
    filters: dict[str, list[str]] = {f"tag:{tag.RUN}": [run_id], "instance-state-name": LIVE}
    found = describe_exactly(context.session.ec2, "describe_instances", filters)
    found.sort(key=lambda item: (utc(item.get("LaunchTime")), item["InstanceId"]), reverse=True)
    return tuple(InstanceId(item["InstanceId"]) for item in found)


def described_group(context: AwsContext, name: str) -> Mapping[str, Any] | None:
    """As DescribeAutoScalingGroups has it."""
    answer = context.session.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    return next(iter(answer["AutoScalingGroups"]), None)


def described_groups(context: AwsContext) -> list[Mapping[str, Any]]:
    """All that are tagged as ours."""
    pages = context.session.autoscaling.get_paginator("describe_auto_scaling_groups").paginate(
        Filters=[{"Name": f"tag:{tag.OWNED}", "Values": [tag.OWNED_VALUE]}]
    )
    return [group for page in pages for group in page["AutoScalingGroups"]]


def group_of(described: Mapping[str, Any]) -> MachineGroup:
    """An item of DescribeAutoScalingGroups. Pure."""
    tags = tags_of(described.get("Tags"))
    members = [each for each in described.get("Instances", ()) if "Terminat" not in each["LifecycleState"]]
    suspended = (str(each["ProcessName"]) for each in described.get("SuspendedProcesses", ()))
    return MachineGroup(
        id=str(described["AutoScalingGroupName"]),
        run_id=RunId(tags.get(tag.RUN, "")),
        wanted=int(described["DesiredCapacity"]),
        machines=tuple(InstanceId(each["InstanceId"]) for each in members),
        is_ending=bool(described.get("Status")),
        suspended=tuple(name for name in suspended if name not in SUSPENDED),
        tags=tags,
    )


def when_free(context: AwsContext, call: Callable[[], object], busy: Collection[str] = BUSY) -> None:
    """Call it, again and again while the group is being changed; ``busy`` are the codes by which AWS says that."""
    for _ in attempts(context.clock, BUSY_TIMEOUT):
        try:
            call()
        except Exception as error:
            if error_code(error) not in busy:
                raise
            failure = error
            continue
        return
    raise failure


def _unless_gone(call: Callable[[], object]) -> None:
    """Do it; a group that is gone, or going, needs no more."""
    try:
        call()
    except Exception as error:
        if not is_gone(error):
            raise


def is_gone(error: Exception) -> bool:
    """Whether AWS says that there is no such group. Pure."""
    return error_code(error) == "ValidationError" and "not found" in error_message(error)
