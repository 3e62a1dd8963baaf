"""Attachments: a volume's disk is in its instance's machine, or in none; with Multi-Attach, in several."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import moto.ec2.models.elastic_block_store as moto_ebs
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.block_device import BlockDeviceType

from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ec2.attachment_rules import attachment_meant, check_attach
from runctl.sandbox.ec2.copies import Copies
from runctl.sandbox.ec2.volumes import SandboxVolume
from runctl.sandbox.machines.machine import Machine


class SandboxAttachment(moto_ebs.VolumeAttachment):
    """One volume at one instance."""

    @property
    def delete_on_termination(self) -> bool:
        """Whether the volume goes with the instance; the instance's own mapping says it."""
        block = self.instance.block_device_mapping.get(self.device)
        return bool(block is not None and block.delete_on_termination)


class Attachments(Copies):
    """Volumes that machines see."""

    def attach_volume(
        self, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> Any:
        """The machine sees the device, when there is a machine yet."""
        volume: SandboxVolume = self.get_volume(volume_id)  # type: ignore[assignment]
        instance = self.get_instance(instance_id)
        asked = parameter("Action") == "AttachVolume"
        with self.world.lock:
            if asked:
                check_attach(volume, instance, device_path)
            attachment = SandboxAttachment(volume, instance, device_path, "attached")  # type: ignore[abstract]
            volume.held.append(attachment)
            instance.block_device_mapping[device_path] = BlockDeviceType(
                volume_id=volume_id,
                status="in-use",
                size=volume.size,
                attach_time=utcnow(),
                delete_on_termination=delete_on_termination,
            )
        machine = self.world.machine(instance_id)
        if asked and machine is not None:
            with instance.changing:  # type: ignore[attr-defined]
                # One that boots meanwhile has found the disk in its mapping; one that ends takes it along.
                if machine.is_up and volume.id not in machine.nodes:
                    self._plug(machine, volume, device_path)
        return attachment

    def detach_volume(self, volume_id: str, instance_id: str, device_path: str) -> Any:
        """As on AWS, a volume that is mounted stays ``detaching`` until it is not; Force takes it all the same."""
        volume: SandboxVolume = self.get_volume(volume_id)  # type: ignore[assignment]
        attachment = attachment_meant(volume, instance_id, device_path)
        if self._is_mounted(attachment) and parameter("Force") != "true":
            if attachment.status != "busy":
                attachment.status = "busy"
                self._in_background(self._detach_when_free, attachment)
            return attachment
        return self._detach(attachment)

    def _is_mounted(self, attachment: Any) -> bool:
        instance_id = attachment.instance.id
        machine, loop = self.world.machine(instance_id), self.disks.device(attachment.volume.id, instance_id)
        return machine is not None and machine.is_up and loop is not None and machine.has_mounted(loop)

    def _plug(self, machine: Machine, volume: Any, device: str) -> None:
        loop = self.disks.plug(volume.id, volume.size, machine.hardware.instance_id)
        machine.add_disk(volume.id, self._node(machine), device, loop)
        machine.nodes[volume.id] = (self._node(machine), device)

    def _node(self, machine: Machine) -> str:
        """The kernel numbers NVMe devices in the order it finds them, which is nobody's order of asking."""
        taken = {node for node, _ in machine.nodes.values()}
        return next(
            name for name in (f"nvme{n}n1" for n in (2, 1, 4, 3, *range(5, 200))) if name not in taken
        )

    def _detach(self, attachment: Any) -> Any:
        volume, instance = attachment.volume, attachment.instance
        machine = self.world.machine(instance.id)
        if machine is not None:
            node, name = machine.nodes.pop(volume.id, ("", attachment.device))
            if node and machine.is_up:
                machine.remove_disk(volume.id, node, name)
        self.disks.unplug(volume.id, instance.id)
        return self._let_go(attachment)

    def _let_go(self, attachment: Any) -> Any:
        """Remove it from EC2's records."""
        with self.world.lock:
            attachment.instance.block_device_mapping.pop(attachment.device, None)
            if attachment in attachment.volume.held:
                attachment.volume.held.remove(attachment)
            attachment.status = "detached"
        return attachment

    def _detach_when_free(self, attachment: Any) -> None:
        while attachment in attachment.volume.held:
            if not self._is_mounted(attachment):
                with contextlib.suppress(EC2ClientError):
                    self._detach(attachment)
                return
            time.sleep(0.1)

    def _unplug_all(self, instance: Any) -> None:
        machine = self.world.machine(instance.id)
        self.world.end_services(instance.id)
        for _, block in list(instance.block_device_mapping.items()):
            self.disks.unplug(block.volume_id, instance.id)
        if machine is not None:
            machine.nodes.clear()
