"""The SSM agents of the sandbox's machines: which have registered, which answer, what the API tells of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends

from runctl.sandbox.metadata.facts import role_of
from runctl.sandbox.world import ACCOUNT, World, current

AGENT_VERSION = "3.3.2299.0"
REGISTRATION_SECONDS = 0.8
"""From power-on until the agent registers."""

_booting: dict[str, float] = {}
"""When the machines of this process were switched on."""


def is_online(region: str, instance_id: str) -> bool:
    """Whether the machine's agent answers."""
    world = current()
    instance = find_instance(region, instance_id)
    if instance is None or instance.state != "running" or instance_id in world.faults.ssm_offline:
        return False
    machine = world.machine(instance_id)
    role = role_of(ec2_backends[ACCOUNT][region], instance_id)
    if machine is None or not machine.is_up or role is None or not role.registers_with_ssm:
        return False
    return time.monotonic() >= _booting.get(instance_id, 0) + REGISTRATION_SECONDS


def instance_information(region: str) -> list[dict[str, Any]]:
    """The API's ``InstanceInformation`` of every instance whose agent is or was registered."""
    found = []
    backend = ec2_backends[ACCOUNT][region]
    for instance in backend.all_instances():
        role = role_of(backend, instance.id)
        over = instance.state in {"pending", "shutting-down", "terminated"}
        if over or role is None or not role.registers_with_ssm:
            continue
        online = is_online(region, instance.id)
        offline = instance.state != "running" or instance.id in current().faults.ssm_offline
        if not online and not offline:
            # It runs, and its agent has not registered yet.
            continue
        ubuntu = "ubuntu" in str(getattr(current().machine(instance.id), "hardware", "")).lower()
        found.append(
            {
                "InstanceId": instance.id,
                "PingStatus": "Online" if online else "ConnectionLost",
                "LastPingDateTime": utcnow(),
                "AgentVersion": AGENT_VERSION,
                "IsLatestVersion": True,
                "PlatformType": "Linux",
                "PlatformName": "Ubuntu" if ubuntu else "Amazon Linux",
                "PlatformVersion": "22.04" if ubuntu else "2023",
                "ResourceType": "EC2Instance",
                "IPAddress": instance.private_ip or "",
                "ComputerName": "ip-" + (instance.private_ip or "").replace(".", "-"),
                "SourceId": instance.id,
                "SourceType": "AWS::EC2::Instance",
            }
        )
    return found


def find_instance(region: str, instance_id: str) -> Any:
    """moto's instance; ``None`` when there is none."""
    try:
        return ec2_backends[ACCOUNT][region].get_instance(instance_id)
    except EC2ClientError:
        return None


def install(world: World) -> None:
    """The agents of machines that boot from now on register."""
    _booting.clear()
    world.providers.append(_register)


def _register(_world: World, _machine: Any, instance: Any) -> Callable[[], None]:
    _booting[instance.id] = time.monotonic()
    return lambda: None
