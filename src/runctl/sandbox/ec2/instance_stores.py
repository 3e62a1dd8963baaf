"""Instance-store disks: those that an instance type comes with, blank at every start and gone with every stop."""

from __future__ import annotations

import math
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from runctl.sandbox.ebs.disks import GIB
from runctl.sandbox.ec2.attachments import Attachments
from runctl.sandbox.machines.machine import Machine

LARGEST_GIB = 8
"""However large the type's disks are: a file system's own tables on terabytes would fill this computer."""


def stores_of(instance_type: str) -> list[int]:
    """The sizes in GiB of the type's NVMe disks. Those of the oldest types, which are not NVMe, are left out."""
    facts = INSTANCE_TYPES.get(instance_type, {}).get("InstanceStorageInfo") or {}
    if facts.get("NvmeSupport") not in {"required", "supported"}:
        return []
    found = []
    for disk in facts.get("Disks", ()):
        size = math.ceil(disk["SizeInGB"] * 1e9 / GIB)
        found += [min(size, LARGEST_GIB)] * disk["Count"]
    return found


class InstanceStores(Attachments):
    """Instances with the disks of their type."""

    def _plug_stores(self, machine: Machine, instance: Any) -> None:
        """They are the first ones that the machine finds, and blank if there are none from before a reboot."""
        if self.world.network is None:
            return
        for number, size in enumerate(stores_of(instance.instance_type)):
            name, node = _name(instance, number), f"nvme{number + 1}n1"
            machine.nodes[name] = (node, "")
            machine.add_store(name, node, self.disks.plug(name, size, instance.id))

    def _unplug_all(self, instance: Any) -> None:
        super()._unplug_all(instance)
        for number, _ in enumerate(stores_of(instance.instance_type)):
            self.disks.unplug(_name(instance, number), instance.id)

    def _lose_stores(self, instance: Any) -> None:
        """What was on them is gone."""
        for number, _ in enumerate(stores_of(instance.instance_type)):
            self.disks.remove(_name(instance, number))


def _name(instance: Any, number: int) -> str:
    return f"{instance.id}-store{number}"
