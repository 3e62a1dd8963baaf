"""Placement groups, which moto has not: made, described, deleted, and what EC2 refuses of launches into them.

Sources: the CreatePlacementGroup, DeletePlacementGroup and DescribePlacementGroups pages of the EC2 API reference, and
"Placement strategies" in the EC2 user guide. Machines of the sandbox are all equally close.
"""

from __future__ import annotations

from typing import Any

import moto.ec2.models as moto_ec2
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError, MissingParameter
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.responses.general import General
from moto.ec2.utils import random_id

STRATEGIES = ("cluster", "spread", "partition")


class PlacementGroup(TaggedEC2Resource):
    """One group; its attributes are the API's fields."""

    def __init__(self, backend: Any, name: str, strategy: str, tags: dict[str, str]) -> None:
        self.ec2_backend = backend
        self.id = self.group_id = random_id(prefix="pg")
        self.group_name = name
        self.strategy = strategy
        self.state = "available"
        self.group_arn = f"arn:aws:ec2:{backend.region_name}:{backend.account_id}:placement-group/{name}"
        self.add_tags(tags)

    @property
    def tags(self) -> list[dict[str, str]]:
        """As they are now."""
        return self.get_tags()


class PlacementGroups(moto_ec2.EC2Backend):
    """Groups by name, and the instances in them."""

    placement_groups: dict[str, PlacementGroup]

    @property
    def _placement_groups(self) -> dict[str, PlacementGroup]:
        if "placement_groups" not in self.__dict__:
            self.placement_groups = {}
        return self.placement_groups

    def create_placement_group(self, name: str, strategy: str, tags: dict[str, str]) -> PlacementGroup:
        """Raises EC2's error for a name that is taken."""
        if name in self._placement_groups:
            raise EC2ClientError(
                "InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists."
            )
        if strategy not in STRATEGIES:
            raise EC2ClientError("InvalidParameterValue", f"Value ({strategy}) for strategy is invalid.")
        return self._placement_groups.setdefault(name, PlacementGroup(self, name, strategy, tags))

    def find_placement_group(self, name: str) -> PlacementGroup:
        """Raises EC2's error for one that there is not."""
        found = self._placement_groups.get(name)
        if found is None:
            raise EC2ClientError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        return found

    def list_placement_groups(self, names: list[str], filters: dict[str, Any]) -> list[PlacementGroup]:
        """Those of these names, or all, that pass the filters."""
        found = [self.find_placement_group(name) for name in names] or list(self._placement_groups.values())
        return [
            group
            for group in found
            if all(group.get_filter_value(name) in wanted for name, wanted in filters.items())
        ]

    def delete_placement_group(self, name: str) -> None:
        """Raises EC2's error while an instance is in it."""
        group = self.find_placement_group(name)
        if self._placed_in(name):
            raise EC2ClientError(
                "InvalidPlacementGroup.InUse",
                f"The placement group '{name}' is in use and may not be deleted.",
            )
        del self._placement_groups[group.group_name]

    def check_placement(self, name: str, instance_type: str, zone: str) -> None:
        """Raises EC2's error where an instance of that type cannot be launched into the group, in that zone."""
        group = self.find_placement_group(name)
        (described,) = self.describe_instance_types([instance_type], {})
        if group.strategy not in described.get("PlacementGroupInfo", {}).get("SupportedStrategies", ()):
            raise EC2ClientError(
                "InvalidParameterCombination",
                f"{group.strategy.capitalize()} placement groups may not be used with instances of type"
                f" '{instance_type}'.",
            )
        zones = {instance.availability_zone for instance in self._placed_in(name)}
        if group.strategy == "cluster" and zones - {zone}:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"The placement group '{name}' is in {', '.join(sorted(zones))}: it cannot span zones.",
            )

    def _placed_in(self, name: str) -> list[Any]:
        return [
            instance
            for instance in self.all_instances()
            if getattr(instance, "placement_group", None) == name and instance._state.name != "terminated"
        ]


def create_placement_group(self: Any) -> ActionResult:
    """CreatePlacementGroup."""
    name = self._get_param("GroupName")
    if not name:
        raise MissingParameter("groupName")
    tags = self._parse_tag_specification("placement-group").get("placement-group", {})
    self.error_on_dryrun()
    group = self.ec2_backend.create_placement_group(name, self._get_param("Strategy") or "cluster", tags)
    return ActionResult({"PlacementGroup": group})


def describe_placement_groups(self: Any) -> ActionResult:
    """DescribePlacementGroups."""
    found = self.ec2_backend.list_placement_groups(
        self._get_param("GroupNames", []), self._filters_from_querystring()
    )
    return ActionResult({"PlacementGroups": found})


def delete_placement_group(self: Any) -> EmptyResult:
    """DeletePlacementGroup."""
    self.error_on_dryrun()
    self.ec2_backend.delete_placement_group(self._get_param("GroupName"))
    return EmptyResult()


def install() -> None:
    """From now on moto's EC2 answers with these, the sandbox's and moto's own."""
    for name, member in vars(PlacementGroups).items():
        if name.endswith(("_placement_group", "_placement_groups", "check_placement", "_placed_in")):
            setattr(moto_ec2.EC2Backend, name, member)
    for answer in (create_placement_group, describe_placement_groups, delete_placement_group):
        setattr(General, answer.__name__, answer)
