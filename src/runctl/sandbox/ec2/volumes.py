"""Volumes: created, copied and deleted as files, and what EC2 refuses of that."""

from __future__ import annotations

from typing import Any, cast

import moto.ec2.models.elastic_block_store as moto_ebs
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.snapshots import Snapshots
from runctl.sandbox.gate import parameter
from runctl.sandbox.volume_rules import Shape, checked_shape

CREATING_SECONDS = 0.3


class SandboxVolume(moto_ebs.Volume):
    """A volume that takes a moment to be created, and remembers what was changed of it."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self.changes: list[Any] = []
        """`Modification`s, the earliest first."""

    @property
    def status(self) -> str:
        """EC2's state of the volume."""
        if self.attachment:
            return "in-use"
        age = (utcnow() - self.create_time).total_seconds()
        return "creating" if age < CREATING_SECONDS else "available"

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
    """Volumes with bodies."""

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
        if parameter("Action") == "CreateVolume" and self.get_zone_by_name(zone_name) is None:
            raise EC2ClientError("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
        if size is None:
            raise EC2ClientError("MissingParameter", "The request must contain the parameter size/snapshot")
        shape = checked_shape(
            more.pop("volume_type", None) or "gp2",
            int(size),
            _number(more.pop("iops", None)),
            _number(more.pop("throughput", None)),
            multi_attach=_truth(more.pop("multi_attach_enabled", None)),
        )
        volume = cast(SandboxVolume, super().create_volume(shape.size, zone_name, snapshot_id, **more))
        volume.shape = shape
        if snapshot_id:
            self.disks.copy(snapshot_id, volume.id)
            self.disks.grow(volume.id, shape.size)
        return volume

    def delete_volume(self, volume_id: str) -> Any:
        """Its bytes are gone with it."""
        volume = super().delete_volume(volume_id)
        self.disks.unplug(volume_id)
        self.disks.remove(volume_id)
        return volume


def _number(value: Any) -> int | None:
    return int(value) if value not in {None, ""} else None


def _truth(value: Any) -> bool:
    return str(value).lower() == "true"
