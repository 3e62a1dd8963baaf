"""Volumes: created, grown and deleted as files, and what EC2 refuses of that."""

from __future__ import annotations

from typing import Any, cast

import moto.ec2.models.elastic_block_store as moto_ebs
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.snapshots import Snapshots
from runctl.sandbox.gate import parameter
from runctl.sandbox.volume_rules import check_volume

CREATING_SECONDS = 0.3


class SandboxVolume(moto_ebs.Volume):
    """A volume that takes a moment to be created."""

    @property
    def status(self) -> str:
        """EC2's state of the volume."""
        if self.attachment:
            return "in-use"
        age = (utcnow() - self.create_time).total_seconds()
        return "creating" if age < CREATING_SECONDS else "available"


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


def _number(value: Any) -> int | None:
    return int(value) if value not in {None, ""} else None
