"""What is made for several machines of one run besides them: a security group and a placement group of their own.

Both are named by the token of the intent and tagged with it, so that they are found again and made once. They cost
nothing. A security group cannot be deleted before the last machine that has it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import tag_list, tags_of
from runctl.providers.aws.context import AwsContext

if TYPE_CHECKING:
    from runctl.providers.aws.ec2.images import InstanceType

PREFIX = "runctl-nodes-"
DESCRIPTION = "runctl: the machines of one run reach each other"
LEFT_BEHIND_AFTER = timedelta(hours=1)
"""What no machine has by then belongs to a run that is over."""
SSH = 22
NOT_MADE_FOR_MACHINES = frozenset({tag.MOUNTS, tag.LOGIN_USER, tag.EXPIRES_AT, tag.IDLE_TIMEOUT, tag.BUDGET})


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
        group_id = next(each["GroupId"] for each in _groups(context, token) if each["VpcId"] == vpc)
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
    ec2: Any = context.session.ec2
    removed = []
    for group in _groups(context, token):
        _unless_gone(lambda i=group["GroupId"]: ec2.delete_security_group(GroupId=i))  # type: ignore[misc]
        removed.append(f"security group {group['GroupName']}")
    for placement in _placements(context, token):
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
            if item["GroupName"].startswith(PREFIX) and _made_before(tags, oldest)
        }
        for token in left - {kept, ""}:
            # AWS refuses it while a machine of the run is there.
            with suppress(Exception):
                remove_network(context, token)


def _made_before(tags: Mapping[str, str], moment: datetime) -> bool:
    with suppress(ValueError):
        return parse_rfc3339(tags.get(tag.CREATED_AT, "")) < moment
    return False


def _groups(context: AwsContext, token: str | None = None) -> list[Mapping[str, Any]]:
    pages = context.session.ec2.get_paginator("describe_security_groups").paginate(Filters=_filters(token))
    return [item for page in pages for item in page["SecurityGroups"] if _is_of(item, token)]


def _placements(context: AwsContext, token: str | None = None) -> list[Mapping[str, Any]]:
    answer: Any = context.session.ec2.describe_placement_groups(Filters=_filters(token))
    return [item for item in answer["PlacementGroups"] if _is_of(item, token)]


def _filters(token: str | None) -> Any:
    if token is None:
        return [{"Name": f"tag:{tag.OWNED}", "Values": [tag.OWNED_VALUE]}]
    return [{"Name": f"tag:{tag.INTENT}", "Values": [token]}]


def _is_of(item: Mapping[str, Any], token: str | None) -> bool:
    tags = tags_of(item.get("Tags"))
    return tag.is_ours(tags) and (token is None or tags.get(tag.INTENT) == token)


def _tags(tags: Mapping[str, str], name: str) -> list[Any]:
    kept = {key: value for key, value in tags.items() if key not in NOT_MADE_FOR_MACHINES}
    return tag_list({**kept, tag.NAME: name})


def _unless_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception as error:
        if error_code(error) not in {"InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown"}:
            raise
