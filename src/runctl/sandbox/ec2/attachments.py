"""Attachments: a volume's disk is in its instance's machine, or in none."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.copies import Copies
from runctl.sandbox.gate import parameter
from runctl.sandbox.machine import Machine


class Attachments(Copies):
    """Volumes that machines see."""

    def attach_volume(
        self, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> Any:
        """The machine sees the device, when there is a machine yet."""
        volume, instance = self.get_volume(volume_id), self.get_instance(instance_id)
        asked = parameter("Action") == "AttachVolume"
        if asked:
            self._check_attach(volume, instance, device_path)
        attachment = super().attach_volume(volume_id, instance_id, device_path, delete_on_termination)
        machine = self.world.machine(instance_id)
        if asked and machine is not None and machine.is_up:
            self._plug(machine, volume, device_path)
        return attachment

    def detach_volume(self, volume_id: str, instance_id: str, device_path: str) -> Any:
        """As on AWS, a volume that is mounted stays ``detaching`` until it is not; Force takes it all the same."""
        volume = self.get_volume(volume_id)
        attachment = volume.attachment
        if attachment is None:
            raise EC2ClientError("IncorrectState", f"Volume '{volume_id}' is in the 'available' state.")
        if instance_id and attachment.instance.id != instance_id:
            return super().detach_volume(volume_id, instance_id, device_path)
        instance = attachment.instance
        machine, loop = self.world.machine(instance.id), self.disks.device(volume_id)
        force = parameter("Force") == "true"
        mounted = machine is not None and machine.is_up and loop is not None and machine.has_mounted(loop)
        if mounted and not force:
            attachment.status = "busy"
            self._beside(self._detach_when_free, volume, attachment)
            return attachment
        return self._detach(volume, instance, attachment.device)

    def _check_attach(self, volume: Any, instance: Any, device: str) -> None:
        if volume.attachment is not None:
            raise EC2ClientError("VolumeInUse", f"{volume.id} is already attached to an instance")
        if volume.status != "available":
            raise EC2ClientError("IncorrectState", f"{volume.id} is not 'available'.")
        if volume.availability_zone != instance.availability_zone:
            raise EC2ClientError(
                "InvalidVolume.ZoneMismatch",
                f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
            )
        if instance._state.name not in {"running", "stopped"}:
            raise EC2ClientError("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        if device in instance.block_device_mapping:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use",
            )
        if not device.startswith(("/dev/sd", "/dev/xvd")):
            raise EC2ClientError(
                "InvalidParameterValue", f"Value ({device}) for parameter device is invalid."
            )

    def _plug(self, machine: Machine, volume: Any, device: str) -> None:
        loop = self.disks.plug(volume.id, volume.size)
        machine.add_disk(volume.id, self._node(machine), device, loop)
        machine.nodes[volume.id] = (self._node(machine), device)

    def _node(self, machine: Machine) -> str:
        """The kernel numbers NVMe devices in the order it finds them, which is nobody's order of asking."""
        taken = {node for node, _ in machine.nodes.values()}
        return next(name for name in (f"nvme{n}n1" for n in (2, 1, 4, 3, *range(5, 30))) if name not in taken)

    def _detach(self, volume: Any, instance: Any, device: str) -> Any:
        machine = self.world.machine(instance.id)
        if machine is not None:
            node, name = machine.nodes.pop(volume.id, ("", device))
            if node and machine.is_up:
                machine.remove_disk(volume.id, node, name)
        self.disks.unplug(volume.id)
        return super().detach_volume(volume.id, instance.id, device)

    def _detach_when_free(self, volume: Any, attachment: Any) -> None:
        while volume.attachment is attachment:
            machine, loop = self.world.machine(attachment.instance.id), self.disks.device(volume.id)
            if machine is None or loop is None or not machine.is_up or not machine.has_mounted(loop):
                with contextlib.suppress(EC2ClientError):
                    self._detach(volume, attachment.instance, attachment.device)
                return
            time.sleep(0.1)

    def _unplug_all(self, instance: Any) -> None:
        machine = self.world.machine(instance.id)
        self.world.end_services(instance.id)
        for _, block in list(instance.block_device_mapping.items()):
            self.disks.unplug(block.volume_id)
        if machine is not None:
            machine.nodes.clear()
