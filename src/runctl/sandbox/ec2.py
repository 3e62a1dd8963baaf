"""moto's EC2 with bodies: instances are machines, volumes are disks, and AWS's own refusals where moto has none."""

from __future__ import annotations

import base64
import contextlib
import gzip
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import moto.ec2.models as moto_ec2
import moto.ec2.models.elastic_block_store as moto_ebs
import moto.ec2.models.instances as moto_instances
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException as IamNotFound

from runctl.sandbox.amis import ami
from runctl.sandbox.disks import Disks
from runctl.sandbox.gate import parameter
from runctl.sandbox.machine import BootFailed, Hardware, Machine
from runctl.sandbox.spot_requests import note_ended, note_fulfilled
from runctl.sandbox.volume_rules import check_volume
from runctl.sandbox.world import ACCOUNT, World, current

log = logging.getLogger("runctl.sandbox")

CREATING_SECONDS = 0.3
ROOT_GIB = 8
SHUTDOWN_SECONDS = 5.0
TLS_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class SandboxInstance(moto_instances.Instance):
    """An instance whose addresses are its machine's."""

    sandbox_address: str | None = None
    ended_at: float | None = None
    spot_instance_request_id: str | None = None

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

    def setup_defaults(self) -> None:
        """The root volume, under the name that the image gives it."""
        volume = self.ec2_backend.create_volume(
            size=ROOT_GIB, zone_name=self._placement.zone, volume_type="gp3"
        )
        self.ec2_backend.attach_volume(volume.id, self.id, self.root_device_name, True)


class SandboxVolume(moto_ebs.Volume):
    """A volume that takes a moment to be created."""

    @property
    def status(self) -> str:
        """EC2's state of the volume."""
        if self.attachment:
            return "in-use"
        age = (utcnow() - self.create_time).total_seconds()
        return "creating" if age < CREATING_SECONDS else "available"


class SandboxEC2(moto_ec2.EC2Backend):
    """One region of EC2 with bodies."""

    __module__ = moto_ec2.EC2Backend.__module__
    """moto finds a service's addresses by the module of its back-end."""

    @property
    def world(self) -> World:
        """The server's."""
        return current()

    @property
    def disks(self) -> Disks:
        """The files of volumes and snapshots."""
        return self.world.disks

    def run_instances(
        self, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any
    ) -> Any:
        """Launch: what AWS refuses is refused, then every instance gets a machine that boots beside the call."""
        self._check_launch(image_id, kwargs)
        tags = dict(kwargs.get("tags") or {})
        groups = kwargs.get("security_group_ids") or security_group_names
        if not groups and not kwargs.get("nics"):
            kwargs["security_group_ids"] = [self._default_group(kwargs).id]
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        for instance in reservation.instances:
            self._complete_root(instance, tags.get("volume", {}))
            if kwargs.get("instance_market_options"):
                cast(SandboxInstance, instance).spot_instance_request_id = note_fulfilled(
                    instance,
                    parameter("InstanceMarketOptions.SpotOptions.SpotInstanceType") or "one-time",
                    parameter("InstanceMarketOptions.SpotOptions.MaxPrice") or "",
                    tags.get("spot-instances-request", {}),
                )
            instance._state.name, instance._state.code = "pending", 0
            self._embody(instance, user_data)
        return reservation

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """They shut down in order, then nothing is left of them."""
        found = self.get_multi_instances_by_id(instance_ids)
        for instance in found:
            if instance.disable_api_termination is True:
                return list(super().terminate_instances(instance_ids))
        before = []
        for instance in found:
            before.append(
                (instance, moto_instances.InstanceState(instance._state.name, instance._state.code))
            )
            if instance._state.name not in {"shutting-down", "terminated"}:
                instance._state.name, instance._state.code = "shutting-down", 32
                self._beside(
                    self._finish, instance, "Client.UserInitiatedShutdown", "User initiated shutdown"
                )
        return before

    def stop_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """They shut down in order; their disks stay. Spot instances that are one-time cannot be stopped."""
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
            before.append(
                (instance, moto_instances.InstanceState(instance._state.name, instance._state.code))
            )
            if instance._state.name in {"running", "pending"}:
                instance._state.name, instance._state.code = "stopping", 64
                self._beside(self._halt, instance)
        return before

    def start_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """They boot from the disks they had."""
        before = []
        for instance in self.get_multi_instances_by_id(instance_ids):
            if instance._state.name not in {"stopped", "running", "pending"}:
                raise _wrong_state(instance, "started")
            before.append(
                (instance, moto_instances.InstanceState(instance._state.name, instance._state.code))
            )
            if instance._state.name == "stopped":
                instance._state.name, instance._state.code = "pending", 0
                self._beside(self._boot, instance, False)
        return before

    def reboot_instances(self, instance_ids: list[str]) -> list[Any]:
        """They go down in order and come up again."""
        found = self.get_multi_instances_by_id(instance_ids)
        for instance in found:
            if instance._state.name != "running":
                raise _wrong_state(instance, "rebooted")
            machine = self.world.machine(instance.id)
            if machine is not None:
                machine.power("reboot")
        return list(found)

    def create_volume(  # type: ignore[override]  # moto's other parameters are passed on by name
        self, size: int | None, zone_name: str, snapshot_id: str | None = None, **more: Any
    ) -> Any:
        """The volume has a body as soon as it needs one; from a snapshot, at once."""
        if snapshot_id:
            least = self.get_snapshot(snapshot_id).volume_size
            size = least if size is None else int(size)
            if size < least:
                raise EC2ClientError(
                    "InvalidParameterValue",
                    f"Volume of {size}GiB is smaller than snapshot '{snapshot_id}', expect size >= {least}GiB",
                )
        if parameter("Action") == "CreateVolume":
            if self.get_zone_by_name(zone_name) is None:
                raise EC2ClientError("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
            check_volume(
                more.get("volume_type") or "gp2",
                None if size is None else int(size),
                _number(more.get("iops")),
                _number(more.get("throughput")),
            )
        if more.get("volume_type") == "gp3" and not more.get("throughput"):
            more["throughput"] = 125
        volume = super().create_volume(cast(int, size), zone_name, snapshot_id, **more)
        if snapshot_id:
            self.disks.copy(snapshot_id, volume.id)
            self.disks.grow(volume.id, volume.size)
        return volume

    def modify_volume(self, volume_id: str, target_size: int | None = None, *words: Any, **more: Any) -> Any:
        """The disk grows where it is; AWS shrinks none."""
        before = self.get_volume(volume_id).size
        if target_size is not None and int(target_size) < before:
            message = f"New size cannot be smaller than existing size ({before} GiB)"
            raise EC2ClientError("InvalidParameterValue", message)
        volume = super().modify_volume(volume_id, target_size, *words, **more)
        self.disks.grow(volume_id, volume.size)
        return volume

    def delete_volume(self, volume_id: str) -> Any:
        """Its bytes are gone with it."""
        volume = super().delete_volume(volume_id)
        self.disks.unplug(volume_id)
        self.disks.remove(volume_id)
        return volume

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

    def create_snapshot(self, volume_id: str, *words: Any, **more: Any) -> Any:
        """The snapshot has the bytes of this moment."""
        snapshot = super().create_snapshot(volume_id, *words, **more)
        self.disks.copy(volume_id, snapshot.id)
        return snapshot

    def delete_snapshot(self, snapshot_id: str) -> Any:
        """Its bytes are gone with it."""
        answer = super().delete_snapshot(snapshot_id)
        self.disks.remove(snapshot_id)
        return answer

    def authorize_security_group_ingress(self, *words: Any, **more: Any) -> Any:
        """Machines of the group let it in from now on."""
        answer = super().authorize_security_group_ingress(*words, **more)
        self._apply_groups()
        return answer

    def revoke_security_group_ingress(self, *words: Any, **more: Any) -> Any:
        """Machines of the group no longer let it in."""
        answer = super().revoke_security_group_ingress(*words, **more)
        self._apply_groups()
        return answer

    def modify_instance_security_groups(self, *words: Any, **more: Any) -> Any:
        """The machine has the new groups' rules."""
        answer = super().modify_instance_security_groups(*words, **more)
        self._apply_groups()
        return answer

    def lose(
        self, instance_id: str, code: str = "Server.InternalError", message: str = "Internal error"
    ) -> None:
        """The host fails: the machine is gone without a word, and EC2 says so."""
        instance = self.get_instance(instance_id)
        machine = self.world.machine(instance_id)
        if machine is not None:
            machine.kill()
        self._remove(instance, code, message)

    def take_back(self, instance_id: str) -> None:
        """The end of a spot interruption: the machine is shut down by AWS."""
        self._finish(
            self.get_instance(instance_id), "Server.SpotInstanceTermination", "Spot instance termination"
        )

    def _check_launch(self, image_id: str, kwargs: dict[str, Any]) -> None:
        if not any(image.id == image_id for image in self.describe_images()):
            raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        kind = kwargs["instance_type"]
        try:
            known = self.describe_instance_types([kind], {})
        except EC2ClientError:
            known = []
        if not known:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        key = kwargs.get("key_name")
        if key and key not in self.key_pairs:
            raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        zone = kwargs.get("placement")
        subnet = kwargs.get("subnet_id") or next(
            (n["SubnetId"] for n in kwargs["nics"] if "SubnetId" in n), None
        )
        if subnet:
            zone = self.get_subnet(subnet).availability_zone
        zone = zone or f"{self.region_name}a"
        for barred_zone, barred_kind in self.world.faults.no_capacity:
            if barred_zone in {None, zone} and barred_kind in {None, kind}:
                raise EC2ClientError(
                    "InsufficientInstanceCapacity",
                    f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested"
                    f" ({zone}). Our system will be working on provisioning additional capacity.",
                )

    def _complete_root(self, instance: Any, tags: dict[str, str]) -> None:
        """Whatever other disks were asked for, there is a root volume, and it goes with the instance."""
        root = instance.root_device_name
        if root not in instance.block_device_mapping:
            before = set(self.volumes)
            instance.setup_defaults()
            for volume_id in set(self.volumes) - before:
                self.volumes[volume_id].add_tags(tags)

    def _default_group(self, kwargs: dict[str, Any]) -> Any:
        subnet = kwargs.get("subnet_id")
        vpc = self.get_subnet(subnet).vpc_id if subnet else cast(Any, self.get_default_vpc()).id
        return self.get_security_group_from_name("default", vpc)

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

    def _embody(self, instance: Any, user_data: Any) -> None:
        image = ami(instance.image_id)
        text = _decoded(user_data)
        key = self.key_pairs.get(instance.key_name) if instance.key_name else None
        hardware = Hardware(
            instance_id=instance.id,
            login_user=image.login_user if image else "ec2-user",
            docker=self.world.docker and (image is None or image.docker),
            authorized_key=key.public_key if key else None,
            user_data=text,
            environment={name: str(CA_BUNDLE) for name in TLS_VARIABLES} if CA_BUNDLE.exists() else {},
        )
        machine = self.world.new_machine(hardware)
        instance.sandbox_address = machine.address
        machine.on_power_off = lambda word: self._powered_off(instance, word)
        if not self.world.faults.never_boots:
            self._beside(self._boot, instance, True)

    def _boot(self, instance: Any, first: bool) -> None:
        machine = self.world.machine(instance.id)
        if machine is None:
            return
        time.sleep(self.world.faults.boot_delay)
        if instance._state.name != "pending":
            return
        try:
            self.world.begin_services(machine, instance)
            machine.boot(first=first)
            self._apply_groups_to(instance, machine)
            for device, block in list(instance.block_device_mapping.items()):
                if device != instance.root_device_name:
                    self._plug(machine, self.get_volume(block.volume_id), device)
        except (BootFailed, OSError) as error:
            log.exception("%s did not boot", instance.id)
            self._remove(instance, "Server.InternalError", str(error)[:200])
            return
        if instance._state.name == "pending":
            instance._state.name, instance._state.code = "running", 16

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

    def _halt(self, instance: Any, code: str = "Client.UserInitiatedShutdown") -> None:
        self._shut_down(instance)
        self._unplug_all(instance)
        instance.stop()
        instance.state_reason = moto_instances.StateReason(f"{code}: User initiated shutdown", code)

    def _finish(self, instance: Any, code: str, message: str) -> None:
        instance._state.name, instance._state.code = "shutting-down", 32
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
            machine.wait_until_down(SHUTDOWN_SECONDS)
        machine.kill()

    def _unplug_all(self, instance: Any) -> None:
        machine = self.world.machine(instance.id)
        self.world.end_services(instance.id)
        for _, block in list(instance.block_device_mapping.items()):
            self.disks.unplug(block.volume_id)
        if machine is not None:
            machine.nodes.clear()

    def _remove(self, instance: Any, code: str, message: str) -> None:
        self._unplug_all(instance)
        self.world.forget_machine(instance.id)
        doomed = [
            block.volume_id
            for device, block in list(instance.block_device_mapping.items())
            if block.delete_on_termination or device == instance.root_device_name
        ]
        for device, block in list(instance.block_device_mapping.items()):
            with contextlib.suppress(EC2ClientError):
                super().detach_volume(block.volume_id, instance.id, device)
        for volume_id in doomed:
            with contextlib.suppress(EC2ClientError):
                self.delete_volume(volume_id)
        instance.terminate()
        note_ended(instance, code)
        instance.state_reason = moto_instances.StateReason(f"{code}: {message}", code)
        instance._reason = f"{message} ({datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT)"
        instance.ended_at = time.monotonic()

    def _powered_off(self, instance: Any, word: str) -> None:
        """The machine ended by itself."""
        if instance._state.name not in {"pending", "running"}:
            return
        code = "Client.InstanceInitiatedShutdown"
        if word == "reboot":
            instance._state.name, instance._state.code = "pending", 0
            self._unplug_all(instance)
            self._boot(instance, first=False)
        elif word == "poweroff" and instance.instance_initiated_shutdown_behavior == "stop":
            self._halt(instance, code)
        elif word == "poweroff":
            self._finish(instance, code, "Instance initiated shutdown")
        else:
            self._remove(instance, "Server.InternalError", "Internal error on launch")

    def _apply_groups(self) -> None:
        for instance in self.all_instances():
            machine = self.world.machine(instance.id)
            if machine is not None and machine.is_up:
                self._apply_groups_to(instance, machine)

    def _apply_groups_to(self, instance: Any, machine: Machine) -> None:
        if self.world.network is None:
            return
        allowed = []
        groups = {group.id: group for group in instance.security_groups}
        for nic in instance.nics.values():
            groups.update({group.id: group for group in nic.group_set})
        for group in groups.values():
            for rule in group.ingress_rules:
                if "CidrIp" in rule.ip_range:
                    allowed.append((rule.ip_protocol or "-1", *_ports(rule), rule.ip_range["CidrIp"]))
        self.world.network.allow_inbound(machine.number, allowed)

    @staticmethod
    def _beside(action: Callable[..., None], *words: Any) -> None:
        def guarded() -> None:
            try:
                action(*words)
            except Exception:
                log.exception("%s failed", action.__name__)

        threading.Thread(target=guarded, daemon=True).start()


def install() -> None:
    """moto makes these from now on."""
    for place, name, ours in (
        (moto_instances, "Instance", SandboxInstance),
        (moto_ebs, "Volume", SandboxVolume),
        (moto_ec2.ec2_backends, "backend", SandboxEC2),
        (General, "get_console_output", _console_output),
        (InstanceResponse, "run_instances", _run_instances),
    ):
        setattr(place, name, ours)


def backend() -> SandboxEC2:
    """The EC2 of the sandbox's own region."""
    return cast(SandboxEC2, moto_ec2.ec2_backends[ACCOUNT][current().region])


_moto_run_instances = InstanceResponse.run_instances


def _run_instances(self: Any) -> Any:
    """moto refuses an unknown instance profile in IAM's words; EC2 has its own."""
    try:
        return _moto_run_instances(self)
    except IamNotFound as error:
        name = self._get_param("IamInstanceProfile.Name") or self._get_param("IamInstanceProfile.Arn")
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Value ({name}) for parameter iamInstanceProfile is invalid. Invalid IAM Instance Profile name",
        ) from error


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


def _decoded(user_data: Any) -> bytes | None:
    """User-data as it was before the API's base64, and before the user's gzip."""
    if not user_data:
        return None
    data = base64.b64decode(str(user_data))
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _wrong_state(instance: Any, verb: str) -> EC2ClientError:
    return EC2ClientError(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
    )


def _ports(rule: Any) -> tuple[int, int]:
    if rule.from_port is None or int(rule.from_port) < 0:
        return 0, 65535
    return int(rule.from_port), int(rule.to_port)


def _number(value: Any) -> int | None:
    return int(value) if value not in {None, ""} else None
