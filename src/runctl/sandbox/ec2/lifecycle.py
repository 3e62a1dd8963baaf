"""Instances from their boot to their end: what EC2 says of them, and what becomes of their machines and disks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import moto.ec2.models.instances as moto_instances
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ec2.instance_stores import InstanceStores
from runctl.sandbox.ec2.placement_groups import PlacementGroups
from runctl.sandbox.ec2.security_groups import SecurityGroups
from runctl.sandbox.ec2.spot_requests import note_ended
from runctl.sandbox.ec2.world_backend import log
from runctl.sandbox.machines.machine import Machine

ROOT_GIB = 8
SHUTDOWN_SECONDS = 5.0
SYSTEMD_SHUTDOWN_SECONDS = 30.0
STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "stopping": 64}
"""As DescribeInstances has them; moto sets those of the final states."""
UP = frozenset({"pending", "running"})
ALIVE = UP | {"stopping", "stopped"}


class SandboxInstance(moto_instances.Instance):
    """An instance whose addresses are its machine's."""

    sandbox_address: str | None = None
    placement_group: str | None = None
    ended_at: float | None = None
    left_at = ""
    """When it was last stopped or ended, as StateTransitionReason has it."""
    spot_instance_request_id: str | None = None

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        self.changing = threading.RLock()
        """Held by whoever boots its machine, halts it or takes it away: one at a time."""
        self.has_booted = False
        super().__init__(*arguments, **attributes)

    @property
    def private_ip(self) -> str | None:
        """The machine's address."""
        return self.sandbox_address or super().private_ip

    private_ip_address = private_ip

    @property
    def public_ip(self) -> str | None:
        """The same: this computer reaches machines by it. None while it is not running."""
        return self.sandbox_address if self._state.name in {"pending", "running"} else None

    public_ip_address = public_ip

    def add_block_device(
        self,
        size: int,
        device_path: str,
        snapshot_id: str | None,
        encrypted: bool,
        delete_on_termination: bool,
        kms_key_id: str | None,
        volume_type: str | None,
    ) -> None:
        """A volume that was asked for with the launch, as fast as it was asked to be, which moto leaves out."""
        asked = _mapping_of(device_path)
        volume = self.ec2_backend.create_volume(
            size=size,
            zone_name=self._placement.zone,
            snapshot_id=snapshot_id,
            encrypted=encrypted,
            kms_key_id=kms_key_id,
            volume_type=volume_type,
            iops=parameter(f"{asked}.Ebs.Iops"),
            throughput=parameter(f"{asked}.Ebs.Throughput"),
        )
        self.ec2_backend.attach_volume(volume.id, self.id, device_path, delete_on_termination)

    def setup_defaults(self) -> None:
        """The root volume, under the name that the image gives it."""
        volume = self.ec2_backend.create_volume(
            size=ROOT_GIB, zone_name=self._placement.zone, volume_type="gp3"
        )
        self.ec2_backend.attach_volume(volume.id, self.id, self.root_device_name, True)


class Lifecycle(InstanceStores, SecurityGroups, PlacementGroups):
    """Instances with machines."""

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Shut them down in order, then remove them."""
        found = self.get_multi_instances_by_id(instance_ids)
        for instance in found:
            if instance.disable_api_termination is True:
                return list(super().terminate_instances(instance_ids))
        before = [(instance, _state_of(instance)) for instance in found]
        for instance in found:
            if self._move(instance, ALIVE, "shutting-down"):
                self._in_background(
                    self._finish, instance, "Client.UserInitiatedShutdown", "User initiated shutdown"
                )
        return before

    def stop_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Shut them down in order; their disks stay. Spot instances that are one-time cannot be stopped."""
        before = []
        for instance in self.get_multi_instances_by_id(instance_ids):
            if instance.lifecycle == "spot":
                raise EC2ClientError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot"
                    " Instance request. You can only stop Spot Instances associated with persistent Spot Instance"
                    " requests.",
                )
            if instance._state.name not in {"running", "pending", "stopped", "stopping"}:
                raise _wrong_state(instance, "stopped")
            before.append((instance, _state_of(instance)))
            if self._move(instance, UP, "stopping"):
                self._in_background(self._halt, instance)
        return before

    def start_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Boot them from the disks they had."""
        before = []
        for instance in self.get_multi_instances_by_id(instance_ids):
            if instance._state.name not in {"stopped", "running", "pending"}:
                raise _wrong_state(instance, "started")
            before.append((instance, _state_of(instance)))
            if self._move(instance, {"stopped"}, "pending"):
                # EC2's LaunchTime is that of the last start.
                instance.launch_time = utcnow()
                instance._reason, instance.state_reason = "", moto_instances.StateReason()
                self.world.meter.instance(instance, self.region_name)
                self._in_background(self._boot, instance)
        return before

    def reboot_instances(self, instance_ids: list[str]) -> list[Any]:
        """Reboot them in order."""
        found = self.get_multi_instances_by_id(instance_ids)
        for instance in found:
            if instance._state.name != "running":
                raise _wrong_state(instance, "rebooted")
            machine = self.world.machine(instance.id)
            if machine is not None:
                with contextlib.suppress(ProcessLookupError):  # it has gone down by itself just now
                    machine.power("reboot")
        return list(found)

    def lose(
        self,
        instance_id: str,
        code: str = "Server.InternalError",
        message: str = "Internal error",
        *,
        holds_seconds: float = 0.0,
    ) -> None:
        """The host fails: the machine is gone without notice, and EC2 says so. It has its volumes that much longer."""
        instance = self.get_instance(instance_id)
        if not self._move(instance, ALIVE, "shutting-down"):
            return
        if not holds_seconds:
            self._remove(instance, code, message)
            return
        machine = self.world.machine(instance.id)
        if machine is not None:
            machine.on_power_off = lambda _: None
            machine.kill()

        def remove() -> None:
            time.sleep(holds_seconds)
            self._remove(instance, code, message)

        threading.Thread(target=remove, daemon=True).start()

    def take_back(self, instance_id: str) -> None:
        """The end of a spot interruption: the machine is shut down by AWS, if nobody else has ended it meanwhile."""
        instance = self.get_instance(instance_id)
        if self._move(instance, ALIVE, "shutting-down", taken_back=True):
            self._finish(instance, "Server.SpotInstanceTermination", "Spot instance termination")

    def _move(self, instance: Any, before: Collection[str], after: str, *, taken_back: bool = False) -> bool:
        """The instance goes from one of those states to ``after``; false, and nothing changes, if it is in none."""
        with self.world.lock:
            if instance._state.name not in before:
                return False
            instance._state.name, instance._state.code = after, STATE_CODES[after]
            if after in {"stopping", "shutting-down"}:
                # From here on EC2 does not bill it.
                instance.left_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT"
                instance._reason = f"User initiated ({instance.left_at})"
                self.world.meter.end(instance, taken_back=taken_back)
            return True

    def _boot(self, instance: Any) -> None:
        machine = self.world.machine(instance.id)
        if machine is None:
            return
        time.sleep(self.world.faults.boot_delay)
        with instance.changing:
            if instance._state.name != "pending":
                return
            machine.on_power_off = lambda action: self._powered_off(instance, action)
            try:
                self.world.begin_services(machine, instance)
                first, instance.has_booted = not instance.has_booted, True
                machine.boot(first=first)
                with contextlib.suppress(ProcessLookupError):
                    # If it goes down by itself meanwhile, `_powered_off` is told, and waits for us.
                    self._connect(instance, machine)
            except Exception as error:  # noqa: BLE001 (whatever it was, the instance is not pending for ever)
                # Told to stop while it booted, it has not failed.
                if self._move(instance, {"pending"}, "shutting-down"):
                    log.exception("%s did not boot", instance.id)
                    self._remove(instance, "Server.InternalError", str(error)[:200])
                return
            self._move(instance, {"pending"}, "running")

    def _connect(self, instance: Any, machine: Machine) -> None:
        """Its firewall, those of the machines that let it in, and its disks."""
        self._apply_groups_to(instance, machine)
        self._apply_groups_naming(instance)
        self._plug_stores(machine, instance)
        for device, block in list(instance.block_device_mapping.items()):
            if device != instance.root_device_name:
                self._plug(machine, self.get_volume(block.volume_id), device)

    def _halt(self, instance: Any, code: str = "Client.UserInitiatedShutdown") -> None:
        self._shut_down(instance)
        with instance.changing:
            # A boot that had begun has ended by now, and what it had started goes too.
            self._shut_down(instance)
            self._unplug_all(instance)
            self._lose_stores(instance)
            with self.world.lock:
                if instance._state.name == "stopping":  # and has not been terminated meanwhile
                    instance.stop()
                    instance._reason = f"User initiated ({instance.left_at})"
                    instance.state_reason = moto_instances.StateReason(
                        f"{code}: User initiated shutdown", code
                    )

    def _finish(self, instance: Any, code: str, message: str) -> None:
        instance.state_reason = moto_instances.StateReason(f"{code}: {message}", code)
        self._shut_down(instance)
        self._remove(instance, code, message)

    def _shut_down(self, instance: Any) -> None:
        """In order where it can be, by force after a while."""
        machine = self.world.machine(instance.id)
        if machine is None:
            return
        machine.on_power_off = lambda _: None
        if machine.is_up:
            with contextlib.suppress(Exception):
                machine.power("poweroff")
            machine.wait_until_down(
                SYSTEMD_SHUTDOWN_SECONDS if machine.hardware.systemd else SHUTDOWN_SECONDS
            )
        machine.kill()

    def _remove(self, instance: Any, code: str, message: str) -> None:
        """Remove its machine and what goes with it; the caller has moved it to ``shutting-down``."""
        machine = self.world.machine(instance.id)
        if machine is not None:
            machine.on_power_off = lambda _: None
            machine.kill()
        with instance.changing:
            # A boot that had begun has ended by now: nothing starts any more.
            self._unplug_all(instance)
            self._lose_stores(instance)
            self.world.forget_machine(instance.id)
            doomed = [
                block.volume_id
                for device, block in list(instance.block_device_mapping.items())
                if block.delete_on_termination or device == instance.root_device_name
            ]
            for attachment in [held for volume in list(self.volumes.values()) for held in volume.attachments]:
                if attachment.instance is instance:
                    self._let_go(attachment)
            for volume_id in doomed:
                with contextlib.suppress(EC2ClientError):
                    self.delete_volume(volume_id)
            instance.terminate()
            note_ended(instance, code)
            instance.state_reason = moto_instances.StateReason(f"{code}: {message}", code)
            instance._reason = f"{message} ({instance.left_at})"
            instance.ended_at = time.monotonic()

    def _powered_off(self, instance: Any, action: str) -> None:
        """The machine ended by itself; if somebody else ends it at the same time, they do the rest."""
        code = "Client.InstanceInitiatedShutdown"
        with instance.changing:
            stops = action == "poweroff" and instance.instance_initiated_shutdown_behavior == "stop"
            after = "pending" if action == "reboot" else "stopping" if stops else "shutting-down"
            if not self._move(instance, UP, after):
                return
            self._unplug_all(instance)
        if action == "reboot":
            self._boot(instance)
        elif stops:
            self._halt(instance, code)
        elif action == "poweroff":
            self._finish(instance, code, "Instance initiated shutdown")
        else:
            self._remove(instance, "Server.InternalError", "Internal error on launch")


def _state_of(instance: Any) -> moto_instances.InstanceState:
    """As it is now: the instance's own will change."""
    return moto_instances.InstanceState(instance._state.name, instance._state.code)


def _wrong_state(instance: Any, verb: str) -> EC2ClientError:
    return EC2ClientError(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
    )


def _mapping_of(device: str) -> str:
    """Which of the request's block device mappings is the one for that device."""
    number = 1
    while (name := parameter(f"BlockDeviceMapping.{number}.DeviceName")) not in {None, device}:
        number += 1
    return f"BlockDeviceMapping.{number if name else 0}"
