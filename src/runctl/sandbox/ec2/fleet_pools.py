"""The pools that a fleet may launch from: every override of its launch templates, put together with its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import EC2ClientError, MissingParameter

REFUSED_IN_TEMPLATE = "InstanceMarketOptions"
"""Whether it is spot is the fleet's to say; a template that says it too is refused."""


@dataclass(frozen=True)
class Pool:
    """One override of a launch template: an instance type in a zone."""

    specification: Mapping[str, Any]
    """The template and its version, as answers repeat them."""
    override: Mapping[str, Any]
    launch: Mapping[str, Any]
    """RunInstances' parameters."""
    zone: str
    rank: int
    """The request's order."""

    @property
    def instance_type(self) -> str:
        """Such as ``g5.xlarge``."""
        return str(self.launch["InstanceType"])

    @property
    def answer(self) -> dict[str, Any]:
        """As CreateFleet shows it."""
        return {
            "LaunchTemplateSpecification": self.specification,
            "Overrides": {**self.override, "AvailabilityZone": self.zone},
        }


def pools(request: Mapping[str, Any], backend: Any) -> Iterator[Pool]:
    """One for each override of the request's templates. Raises what EC2 answers to a template that is not right."""
    rank = 0
    for config in request["LaunchTemplateConfigs"]:
        named = config.get("LaunchTemplateSpecification") or {}
        version = named.get("Version")
        if not version:
            raise MissingParameter("LaunchTemplateSpecification.Version")
        if "LaunchTemplateId" in named:
            template = backend.get_launch_template(named["LaunchTemplateId"])
        elif "LaunchTemplateName" in named:
            template = backend.get_launch_template_by_name(named["LaunchTemplateName"])
        else:
            raise MissingParameter("LaunchTemplateSpecification.LaunchTemplateId")
        found = template.get_version(version)
        if REFUSED_IN_TEMPLATE in found.data:
            raise EC2ClientError(
                "InvalidFleetConfig", f"The launch template must not have {REFUSED_IN_TEMPLATE}."
            )
        specification = {"LaunchTemplateId": template.id, "Version": str(found.number)}
        user_data = named.get("LaunchTemplateSpecificationUserData")
        for override in config.get("Overrides") or [{}]:
            launch = _launch_parameters(found.data, override, user_data)
            zone = _zone_of(launch, backend)
            yield Pool(specification, override, launch, zone, rank)
            rank += 1


def _launch_parameters(
    template: Mapping[str, Any], override: Mapping[str, Any], user_data: Any
) -> dict[str, Any]:
    launch = {name: value for name, value in template.items() if value not in (None, [], {})}
    if user_data:
        launch["UserData"] = user_data
    for name in ("InstanceType", "ImageId", "KeyName", "BlockDeviceMappings", "IamInstanceProfile"):
        if override.get(name):
            launch[name] = override[name]
    if override.get("SubnetId"):
        interfaces = launch.get("NetworkInterfaces")
        if interfaces:
            launch["NetworkInterfaces"] = [
                {**interfaces[0], "SubnetId": override["SubnetId"]},
                *interfaces[1:],
            ]
        else:
            launch["SubnetId"] = override["SubnetId"]
    zone = override.get("AvailabilityZone") or override.get("Placement", {}).get("AvailabilityZone")
    if zone:
        launch["Placement"] = {**launch.get("Placement", {}), "AvailabilityZone": zone}
    for name in ("ImageId", "InstanceType"):
        if not launch.get(name):
            raise EC2ClientError("InvalidFleetConfig", f"Neither the template nor the override has {name}.")
    return launch


def _zone_of(launch: Mapping[str, Any], backend: Any) -> str:
    subnet = launch.get("SubnetId") or next(
        (item["SubnetId"] for item in launch.get("NetworkInterfaces", []) if item.get("SubnetId")), None
    )
    if subnet:
        return str(backend.get_subnet(subnet).availability_zone)
    return str(launch.get("Placement", {}).get("AvailabilityZone") or f"{backend.region_name}a")


def refuse_duplicates(pools: Sequence[Pool]) -> None:
    counts = Counter((pool.instance_type, pool.zone) for pool in pools)
    if any(count > 1 for count in counts.values()):
        raise EC2ClientError(
            "InvalidFleetConfig", "The fleet configuration contains duplicate instance pools"
        )
