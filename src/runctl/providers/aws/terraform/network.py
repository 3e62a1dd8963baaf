"""Security groups, placement groups and key pairs, from what EC2 describes to Terraform's arguments. Pure.

Sources: ``aws_security_group``, ``aws_placement_group``, ``aws_key_pair`` in the documentation of Terraform's AWS
provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.terraform import Block, TerraformResource
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.terraform.names import TYPES, Names, ignoring, settable

Described = Mapping[str, Any]


def security_group(item: Described, names: Names, region: str) -> TerraformResource:
    """With its rules. Other groups are named by their ids: two groups may let each other in."""
    body: dict[str, object] = {
        "name": item["GroupName"],
        "description": item["Description"],
        "vpc_id": item["VpcId"],
    }
    for argument, key in (("ingress", "IpPermissions"), ("egress", "IpPermissionsEgress")):
        rules = tuple(Block(rule) for rule in _rules(item.get(key, ()), item["GroupId"]))
        if rules:
            body[argument] = rules
    body["tags"] = settable(tags_of(item.get("Tags")))
    return TerraformResource(
        TYPES[ResourceKind.SECURITY_GROUP],
        names.label(ResourceKind.SECURITY_GROUP, item["GroupId"], region),
        item["GroupId"],
        body,
        region,
    )


def _rules(permissions: Sequence[Described], own: str) -> Iterator[dict[str, object]]:
    """One for each permission and description, in an order of their own."""
    found: list[dict[str, Any]] = []
    for permission in permissions:
        head = {
            "from_port": permission.get("FromPort", 0),
            "to_port": permission.get("ToPort", 0),
            "protocol": permission["IpProtocol"],
        }
        by_description: dict[str, dict[str, Any]] = {}
        for key, inner, argument in (
            ("IpRanges", "CidrIp", "cidr_blocks"),
            ("Ipv6Ranges", "CidrIpv6", "ipv6_cidr_blocks"),
            ("PrefixListIds", "PrefixListId", "prefix_list_ids"),
            ("UserIdGroupPairs", "GroupId", "security_groups"),
        ):
            for source in permission.get(key, ()):
                rule = by_description.setdefault(source.get("Description", ""), {})
                if source[inner] == own:
                    rule["self"] = True
                else:
                    rule.setdefault(argument, []).append(source[inner])
        for description, rule in by_description.items():
            sources = {
                key: sorted(value) if isinstance(value, list) else value for key, value in rule.items()
            }
            found.append({**head, **sources, **({"description": description} if description else {})})
    yield from sorted(found, key=repr)


def placement_group(item: Described, names: Names, region: str) -> TerraformResource:
    """Where the machines of one run are close to each other."""
    body: dict[str, object] = {"name": item["GroupName"], "strategy": item["Strategy"]}
    if item.get("PartitionCount"):
        body["partition_count"] = item["PartitionCount"]
    if item.get("SpreadLevel"):
        body["spread_level"] = item["SpreadLevel"]
    body["tags"] = settable(tags_of(item.get("Tags")))
    return TerraformResource(
        TYPES[ResourceKind.PLACEMENT_GROUP],
        names.label(ResourceKind.PLACEMENT_GROUP, item["GroupName"], region),
        item["GroupName"],
        body,
        region,
    )


def key_pair(item: Described, names: Names, region: str) -> TerraformResource:
    """EC2 shows the public key when it is asked for it."""
    name = item["KeyName"]
    return TerraformResource(
        TYPES[ResourceKind.KEY_PAIR],
        names.label(ResourceKind.KEY_PAIR, item["KeyPairId"], region),
        name,
        {
            "key_name": name,
            "public_key": item.get("PublicKey", "").strip(),
            "tags": settable(tags_of(item.get("Tags"))),
            "lifecycle": Block(ignoring("public_key")),
        },
        region,
    )
