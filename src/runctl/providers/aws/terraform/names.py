"""What resources are called in Terraform, and how one refers to another. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from runctl.core import tags as tag
from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.abilities.terraform import Reference

TYPES: Mapping[ResourceKind, str] = {
    ResourceKind.INSTANCE: "aws_instance",
    ResourceKind.VOLUME: "aws_ebs_volume",
    ResourceKind.SNAPSHOT: "aws_ebs_snapshot",
    ResourceKind.SECURITY_GROUP: "aws_security_group",
    ResourceKind.PLACEMENT_GROUP: "aws_placement_group",
    ResourceKind.KEY_PAIR: "aws_key_pair",
    ResourceKind.ROLE: "aws_iam_role",
    ResourceKind.INSTANCE_PROFILE: "aws_iam_instance_profile",
    ResourceKind.BUCKET: "aws_s3_bucket",
    ResourceKind.REPOSITORY: "aws_ecr_repository",
    ResourceKind.LAUNCH_TEMPLATE: "aws_launch_template",
    ResourceKind.GROUP: "aws_autoscaling_group",
}
"""The resource of Terraform's AWS provider for each kind that has one."""


def label_of(text: str) -> str:
    """An identifier that is like the text: letters, digits and underscores, no digit first."""
    found = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed"
    return f"_{found}" if found[0].isdigit() else found


class Names:
    """The labels of all resources that are written.

    A name that two resources of one type have is joined by their ids: labels do not depend on the order.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        listed = [each for each in resources if each.kind in TYPES]
        count = Counter((each.kind, label_of(each.name or each.id)) for each in listed)
        self._labels = {
            (each.kind, each.id, each.region): self._label(
                each, count[each.kind, label_of(each.name or each.id)]
            )
            for each in listed
        }

    @staticmethod
    def _label(resource: Resource, count: int) -> str:
        named = label_of(resource.name or resource.id)
        if count == 1:
            return named
        more = (resource.id,) if resource.name != resource.id else (resource.region or "",)
        return label_of("_".join((named, *more)))

    def label(self, kind: ResourceKind, identifier: str, region: str | None) -> str:
        """Raises `KeyError` for one that is not written."""
        return self._labels[kind, identifier, region]

    def refer(
        self, kind: ResourceKind, identifier: str, region: str | None, attribute: str = "id"
    ) -> Reference | str:
        """The other resource's attribute; the id itself where that resource is not written."""
        label = self._labels.get((kind, identifier, region))
        return identifier if label is None else Reference(f"{TYPES[kind]}.{label}.{attribute}")


def settable(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that may be set by anybody but AWS, sorted."""
    return {key: tags[key] for key in sorted(tags) if not key.startswith(tag.CLOUDS_OWN)}


def ignoring(*arguments: str) -> dict[str, object]:
    """The arguments of a ``lifecycle`` block that leaves these as they are."""
    return {"ignore_changes": tuple(Reference(each) for each in arguments)}
