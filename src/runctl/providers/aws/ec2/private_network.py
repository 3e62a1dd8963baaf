"""What is made for several machines of one run besides them: a security group and a placement group of their own.

Both are named by the token of the intent and tagged with it, so that they are found again and made once. They cost
nothing. A security group cannot be deleted before the last machine that has it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339
from runctl.core.ids import RunId
from runctl.providers.abilities.groups import GroupNetwork
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import tag_list, tags_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import network
from runctl.providers.aws.ec2.images import InstanceType, describe_instance_types
from runctl.providers.instance_plans import CreatePlan

PREFIX = "runctl-nodes-"
DESCRIPTION = "runctl: the machines of one run reach each other"
LEFT_BEHIND_AFTER = timedelta(hours=1)
"""What no machine has by then belongs to a run that is over."""
SSH = 22
NOT_FOR_MACHINES = frozenset(
    {tag.MOUNTS, tag.READ_ONLY, tag.LOGIN_USER, tag.EXPIRES_AT, tag.IDLE_TIMEOUT, tag.BUDGET}
)


def name_of(token: str) -> str:
    """Of both groups. Pure."""
    return PREFIX + token


def entrances_of(groups: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """From where these security groups let SSH in: networks and prefix lists. Pure."""
    found: dict[str, None] = {}
    for group in groups:
        for rule in group.get("IpPermissions", ()):
            if not _covers_ssh(rule):
                continue
            for ranges, key in (
                ("IpRanges", "CidrIp"),
                ("Ipv6Ranges", "CidrIpv6"),
                ("PrefixListIds", "PrefixListId"),
            ):
                found.update(dict.fromkeys(str(item[key]) for item in rule.get(ranges, ())))
    return tuple(found)


def _covers_ssh(rule: Mapping[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in {"tcp", "6"} and rule.get("FromPort", 0) <= SSH <= rule.get("ToPort", 0)


def permissions(group_id: str, entrances: Sequence[str]) -> list[dict[str, Any]]:
    """What the group lets in: everything from its own machines, and SSH from the entrances. Pure."""
    found: list[dict[str, Any]] = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}]
    ssh: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH}
    for entrance in entrances:
        if entrance.startswith("pl-"):
            found.append({**ssh, "PrefixListIds": [{"PrefixListId": entrance}]})
        elif ":" in entrance:
            found.append({**ssh, "Ipv6Ranges": [{"CidrIpv6": entrance}]})
        else:
            found.append({**ssh, "IpRanges": [{"CidrIp": entrance}]})
    return found


def placement_of(types: Sequence[InstanceType], token: str, most: int) -> tuple[str | None, str]:
    """The name of the cluster placement group, and why there is one, or none. Pure."""
    if most < 2:
        return None, "there is one machine"
    without = [each.name for each in types if not each.cluster_placement]
    if without:
        return None, f"{', '.join(without)} cannot be put close to each other"
    return name_of(token), "close to each other, for the fastest network between them"


def plan_network(
    context: AwsContext, machine: CreatePlan, most: int, *, named: bool
) -> tuple[CreatePlan, GroupNetwork]:
    """What is made for ``most`` such machines, and what each of them is then.

    The VPC's default group, in which any machine of the account may be, is left out unless groups are named: what it
    lets in over SSH from networks, the machines' own group does.
    """
    session = context.session
    types = describe_instance_types(session, sorted({offer.pool.instance_type for offer in machine.offers}))
    placement, reason = placement_of(types, machine.client_token, most)
    named = named or bool(context.settings.security_groups)
    groups: Sequence[Mapping[str, Any]] = ()
    if machine.security_groups:
        answer: Any = session.ec2.describe_security_groups(GroupIds=list(machine.security_groups))
        groups = answer["SecurityGroups"]
    name = name_of(machine.client_token)
    created = [f"security group {name}: its machines reach each other, and nobody else reaches them"]
    if placement is not None:
        created.append(f"cluster placement group {placement}")
    machine = replace(
        machine,
        security_groups=machine.security_groups if named else (),
        will_also_create=(*machine.will_also_create, *created),
    )
    entrances = () if named else entrances_of(groups)
    return machine, GroupNetwork(name, entrances, placement, reason)


def make_network(
    context: AwsContext, token: str, subnet: str, own: GroupNetwork, tags: Mapping[str, str]
) -> str:
    """The id of the security group, which is there as planned, with the placement group."""
    vpc = network.subnet(context.session, subnet).vpc
    group = ensure_network(context, token, vpc, own.entrances, tags)
    if own.placement is not None:
        ensure_placement(context, own.placement, tags)
    return group


def ensure_network(
    context: AwsContext, token: str, vpc: str, entrances: Sequence[str], tags: Mapping[str, str]
) -> str:
    """The id of the security group, which is there and lets in what it should."""
    ec2: Any = context.session.ec2
    name = name_of(token)
    try:
        group_id = ec2.create_security_group(
            GroupName=name,
            Description=DESCRIPTION,
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": _tags(tags, name)}],
        )["GroupId"]
    except Exception as error:
        if error_code(error) != "InvalidGroup.Duplicate":
            raise
        known = _groups(context, Own(tag.INTENT, token))
        group_id = next(each["GroupId"] for each in known if each["VpcId"] == vpc)
    for permission in permissions(group_id, entrances):
        try:
            ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[permission])
        except Exception as error:
            if error_code(error) != "InvalidPermission.Duplicate":
                raise
    return str(group_id)


def ensure_placement(context: AwsContext, name: str, tags: Mapping[str, str]) -> None:
    """The cluster placement group of that name is there."""
    ec2: Any = context.session.ec2
    try:
        ec2.create_placement_group(
            GroupName=name,
            Strategy="cluster",
            TagSpecifications=[{"ResourceType": "placement-group", "Tags": _tags(tags, name)}],
        )
    except Exception as error:
        if error_code(error) != "InvalidPlacementGroup.Duplicate":
            raise


def remove_network(context: AwsContext, token: str) -> tuple[str, ...]:
    """Both groups of that token are gone; what was there. Raises EC2's error while a machine has one."""
    return _removed(context, Own(tag.INTENT, token))


def remove_network_of(context: AwsContext, run_id: RunId) -> tuple[str, ...]:
    """The same of a run whose machines are a group's."""
    return _removed(context, Own(tag.RUN, run_id))


def _removed(context: AwsContext, own: Own) -> tuple[str, ...]:
    ec2: Any = context.session.ec2
    removed = []
    for group in _groups(context, own):
        _unless_gone(lambda i=group["GroupId"]: ec2.delete_security_group(GroupId=i))  # type: ignore[misc]
        removed.append(f"security group {group['GroupName']}")
    for placement in _placements(context, own):
        name = placement["GroupName"]
        _unless_gone(lambda n=name: ec2.delete_placement_group(GroupName=n))  # type: ignore[misc]
        removed.append(f"placement group {name}")
    return tuple(removed)


def remove_old_networks(context: AwsContext, kept: str) -> None:
    """What runs that are over have left is gone, but for that of the token ``kept``. It costs nothing: a failure can
    wait."""
    oldest = context.clock.now() - LEFT_BEHIND_AFTER
    with suppress(Exception):
        left = {
            tags.get(tag.INTENT, "")
            for item in (*_groups(context), *_placements(context))
            for tags in [tags_of(item.get("Tags"))]
            # That of a group's machines goes with the group, which may have no machine for an hour.
            if item["GroupName"].startswith(PREFIX) and tag.RUN not in tags and _created_before(tags, oldest)
        }
        for token in left - {kept, ""}:
            # AWS refuses it while a machine of the run is there.
            with suppress(Exception):
                remove_network(context, token)


def _created_before(tags: Mapping[str, str], moment: datetime) -> bool:
    with suppress(ValueError):
        return parse_rfc3339(tags.get(tag.CREATED_AT, "")) < moment
    return False


@dataclass(frozen=True)
class Own:
    """By which tag what is made is known again."""

    key: str
    value: str


ANY = Own(tag.OWNED, tag.OWNED_VALUE)


def _groups(context: AwsContext, own: Own = ANY) -> list[Mapping[str, Any]]:
    pages = context.session.ec2.get_paginator("describe_security_groups").paginate(Filters=_filters(own))
    return [item for page in pages for item in page["SecurityGroups"] if _is_of(item, own)]


def _placements(context: AwsContext, own: Own = ANY) -> list[Mapping[str, Any]]:
    answer: Any = context.session.ec2.describe_placement_groups(Filters=_filters(own))
    return [item for item in answer["PlacementGroups"] if _is_of(item, own)]


def _filters(own: Own) -> Any:
    return [{"Name": f"tag:{own.key}", "Values": [own.value]}]


def _is_of(item: Mapping[str, Any], own: Own) -> bool:
    tags = tags_of(item.get("Tags"))
    return tag.is_ours(tags) and tags.get(own.key) == own.value


def _tags(tags: Mapping[str, str], name: str) -> list[Any]:
    kept = {key: value for key, value in tags.items() if key not in NOT_FOR_MACHINES}
    return tag_list({**kept, tag.NAME: name})


def _unless_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception as error:
        if error_code(error) not in {"InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown"}:
            raise
