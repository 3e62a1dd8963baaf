"""moto's EC2 made real: instances are machines, volumes are disks, and AWS's own refusals where moto has none."""

from __future__ import annotations

from typing import Any, cast

import moto.ec2.models as moto_ec2
import moto.ec2.models.elastic_block_store as moto_ebs
import moto.ec2.models.instances as moto_instances
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from runctl.sandbox.ec2 import (
    filter_patterns,
    fleets,
    launch_templates,
    placement_groups,
    type_answers,
    volume_answers,
)
from runctl.sandbox.ec2.launch import Launch, run_instances
from runctl.sandbox.ec2.lifecycle import SandboxInstance
from runctl.sandbox.ec2.snapshots import SandboxSnapshot
from runctl.sandbox.ec2.volumes import SandboxVolume
from runctl.sandbox.world import ACCOUNT, current


class SandboxEC2(Launch):
    """One region of EC2 whose instances are machines."""

    __module__ = moto_ec2.EC2Backend.__module__
    """moto finds a service's addresses by the module of its back-end."""


def install() -> None:
    """From now on moto makes these."""
    for owner, name, ours in (
        (moto_instances, "Instance", SandboxInstance),
        (moto_ebs, "Volume", SandboxVolume),
        (moto_ebs, "Snapshot", SandboxSnapshot),
        (moto_ec2.ec2_backends, "backend", SandboxEC2),
        (General, "get_console_output", _console_output),
        (InstanceResponse, "run_instances", run_instances),
    ):
        setattr(owner, name, ours)
    volume_answers.install()
    fleets.install()
    launch_templates.install()
    placement_groups.install()
    filter_patterns.install()
    type_answers.install()


def open_default_network() -> None:
    """The default VPC of the sandbox's region has a way to the internet, as every account's has."""
    network = backend()
    vpc = cast(Any, network.get_default_vpc())
    gateway = network.create_internet_gateway()
    network.attach_internet_gateway(gateway.id, vpc.id)
    (table,) = network.describe_route_tables(filters={"association.main": "true", "vpc-id": vpc.id})
    network.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)


def backend() -> SandboxEC2:
    """The EC2 of the sandbox's own region."""
    return cast(SandboxEC2, moto_ec2.ec2_backends[ACCOUNT][current().region])


def _console_output(self: Any) -> Any:
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    machine = current().machine(instance.id)
    text = machine.console() if machine is not None else ""
    return ActionResult(
        {
            "InstanceId": instance.id,
            "Timestamp": utcnow(),
            "Output": Base64EncodedString.from_raw_string(text[-65536:]),
        }
    )
