"""Volumes: created and deleted as files, and what EC2 refuses of that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import moto.ec2.models.elastic_block_store as moto_ebs
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ebs.volume_rules import Shape, checked_shape
from runctl.sandbox.ec2.initialization import MIB, Initialization, checked_rate
from runctl.sandbox.ec2.snapshots import Snapshots

CREATING_SECONDS = 0.3


class SandboxVolume(moto_ebs.Volume):
    """A volume that takes a moment to be created, and remembers what was changed of it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.held: list[moto_ebs.VolumeAttachment] = []
        """Where it is attached; more than once only with Multi-Attach."""
        super().__init__(*arguments, **more)
        self.changes: list[Any] = []
        """`Modification`s, the earliest first."""
        self.source_volume_id: str | None = None
        self.volume_initialization_rate: int | None = None
        self.initialization: Initialization | None = None
        """Of those that did not begin empty."""
        self.is_being_filled = False
        """While its first bytes are on their way: nobody may attach it before."""

    @property
    def attachment(self) -> moto_ebs.VolumeAttachment | None:
        """moto's only one: the first."""
        return self.held[0] if self.held else None

    @attachment.setter
    def attachment(self, _value: object) -> None:
        """`Attachments` keeps them."""

    @property
    def attachments(self) -> list[moto_ebs.VolumeAttachment]:
        """All of them."""
        return list(self.held)

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        """What moto's filters compare with."""
        of_attachments: dict[str, Callable[[Any], Any]] = {
            "attachment.device": lambda attachment: attachment.device,
            "attachment.instance-id": lambda attachment: attachment.instance.id,
            "attachment.status": lambda attachment: attachment.status,
            "attachment.delete-on-termination": lambda attachment: str(
                attachment.delete_on_termination
            ).lower(),
        }
        if filter_name in of_attachments:
            return [of_attachments[filter_name](attachment) for attachment in self.held]
        if filter_name == "multi-attach-enabled":
            return str(bool(self.multi_attach_enabled)).lower()
        return super().get_filter_value(filter_name, method_name)

    @property
    def status(self) -> str:
        """EC2's state of the volume."""
        if self.held:
            return "in-use"
        age = (utcnow() - self.create_time).total_seconds()
        return "creating" if self.is_being_filled or age < CREATING_SECONDS else "available"

    @property
    def shape(self) -> Shape:
        """Its type and numbers."""
        return Shape(
            self.volume_type, int(self.size), self.iops, self.throughput, bool(self.multi_attach_enabled)
        )

    @shape.setter
    def shape(self, shape: Shape) -> None:
        self.volume_type, self.size = shape.volume_type, shape.size
        self.iops, self.throughput = shape.iops, shape.throughput
        self.multi_attach_enabled = shape.multi_attach_enabled


class Volumes(Snapshots):
    """Volumes that are real disks."""

    def create_volume(  # type: ignore[override]  # moto's other parameters are passed on by name
        self, size: int | None, zone_name: str, snapshot_id: str | None = None, **more: Any
    ) -> Any:
        """The volume gets a disk as soon as it needs one; from a snapshot, at once."""
        if snapshot_id:
            size = self._size_from(snapshot_id, size)
        asked = parameter("Action") == "CreateVolume"
        if asked and self.get_zone_by_name(zone_name) is None:
            raise EC2ClientError("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
        rate = checked_rate(_number(parameter("VolumeInitializationRate")), snapshot_id) if asked else None
        if size is None:
            raise EC2ClientError("MissingParameter", "The request must contain the parameter size/snapshot")
        shape = checked_shape(
            more.pop("volume_type", None) or "gp2",
            int(size),
            _number(more.pop("iops", None)),
            _number(more.pop("throughput", None)),
            multi_attach=str(more.pop("multi_attach_enabled", None)).lower() == "true",
        )
        volume = cast(SandboxVolume, super().create_volume(shape.size, zone_name, snapshot_id, **more))
        volume.shape = shape
        self.world.meter.volume(volume, self.region_name)
        if snapshot_id:
            written = self.disks.written_bytes(snapshot_id)
            kind = "default" if rate is None else "provisioned-rate"
            volume.initialization = Initialization(kind, written, rate)
            volume.volume_initialization_rate = rate
            with self.filling(volume):
                self.disks.copy(snapshot_id, volume.id)
                self.disks.grow(volume.id, shape.size)
                faults = self.world.faults
                if faults.lazy_seconds > 0:
                    mibps = faults.background_mibps if rate is None else rate
                    self.disks.make_lazy(
                        volume.id, seconds_per_block=faults.lazy_seconds, bytes_per_second=mibps * MIB
                    )
        return volume

    @contextlib.contextmanager
    def filling(self, volume: SandboxVolume) -> Iterator[None]:
        """The volume is ``creating`` for as long."""
        volume.is_being_filled = True
        try:
            yield
        finally:
            volume.is_being_filled = False

    def _size_from(self, snapshot_id: str, size: int | None) -> int:
        snapshot = self.get_snapshot(snapshot_id)
        if snapshot.status != "completed":
            raise EC2ClientError("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}")
        least = snapshot.volume_size
        size = least if size is None else int(size)
        if size < least:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Volume of {size}GiB is smaller than snapshot '{snapshot_id}', expect size >= {least}GiB",
            )
        return size

    def describe_volumes(self, volume_ids: list[str] | None = None, filters: Any = None) -> list[Any]:
        """Those, or all."""
        for volume_id in volume_ids or ():
            self.get_volume(volume_id)
        return super().describe_volumes(volume_ids, filters)

    def delete_volume(self, volume_id: str) -> Any:
        """Its data is deleted with it."""
        self.world.meter.end(self.get_volume(volume_id))
        volume = super().delete_volume(volume_id)
        self.disks.remove(volume_id)
        return volume


def _number(value: Any) -> int | None:
    return int(value) if value not in {None, ""} else None
