"""Snapshots: the bytes that a volume had, and what they weigh."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from fractions import Fraction
from typing import Any

import moto.ec2.models.elastic_block_store as moto_ebs
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError, InvalidSnapshotInUse
from moto.ec2.utils import generic_filter

from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ec2.world_backend import WorldBackend

PENDING_PER_VOLUME = 5
"""EC2's quota of snapshots that are being made of one volume (one, for st1 and sc1)."""


class SandboxSnapshot(moto_ebs.Snapshot):
    """A snapshot that is pending for a while, and whose size is the volume's of that time."""

    full_snapshot_size_in_bytes = 0
    """All blocks that had been written; not what was stored beside the snapshots before it."""
    owner_alias: str | None = None
    is_being_filled = False
    """While its bytes are on their way."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._began = time.monotonic()
        self._ended: datetime | None = None
        super().__init__(*arguments, **more)
        self._size = int(self.volume.size)
        # Amazon's own, of its images, have been there for long.
        if self.owner_id != self.ec2_backend.account_id:
            self.owner_alias, self._ended = "amazon", utcnow()

    @property
    def status(self) -> str:
        """EC2's state of the snapshot."""
        return "completed" if self._share() >= 1 and not self.is_being_filled else "pending"

    @status.setter
    def status(self, _value: str) -> None:
        """Time says it."""

    @property
    def progress(self) -> str:
        """Percent, with the sign."""
        return f"{int(100 * self._share())}%"

    @property
    def completion_time(self) -> datetime | None:
        """When it was completed."""
        return self._ended if self._share() >= 1 else None

    @property
    def volume_size(self) -> int:
        """GiB."""
        return self._size

    @volume_size.setter
    def volume_size(self, size: int) -> None:
        self._size = size

    def _share(self) -> float:
        if self._ended is not None:
            return 1.0
        seconds = self.ec2_backend.world.faults.snapshot_seconds
        share = (time.monotonic() - self._began) / seconds if seconds > 0 else 1.0
        if share >= 1:
            self._ended = utcnow()
        return min(share, 1.0)

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        """What moto's filters compare with."""
        if filter_name == "volume-size":
            return str(self.volume_size)
        return super().get_filter_value(filter_name, method_name)


class Snapshots(WorldBackend):
    """Snapshots that are real disks."""

    def create_snapshot(self, volume_id: str, *arguments: Any, **more: Any) -> Any:
        """The snapshot has the bytes of this moment, and is completed a while later."""
        volume = self.get_volume(volume_id)
        of_an_image = more.get("from_ami") is not None
        if not of_an_image and volume.status not in {"available", "in-use"}:
            raise EC2ClientError("IncorrectState", f"Volume '{volume_id}' is in the '{volume.status}' state.")
        pending = [s for s in self.snapshots.values() if s.volume is volume and s.status == "pending"]
        if len(pending) >= (1 if volume.volume_type in {"st1", "sc1"} else PENDING_PER_VOLUME):
            raise EC2ClientError(
                "ConcurrentSnapshotLimitExceeded",
                f"Maximum allowed in-progress snapshots for volume '{volume_id}' exceeded.",
            )
        snapshot = super().create_snapshot(volume_id, *arguments, **more)
        self._keep(snapshot, volume_id, self.freezing(volume))
        return snapshot

    def register_image(self, *arguments: Any, **more: Any) -> Any:
        """The image is made of the snapshot that its root is mapped to."""
        image = super().register_image(*arguments, **more)
        source = parameter("BlockDeviceMapping.1.Ebs.SnapshotId")
        if source is not None:
            snapshot = self.get_snapshot(source)
            self.snapshots.pop(image.ebs_snapshot.id, None)
            image.ebs_snapshot = snapshot
        return image

    def copy_snapshot(
        self, source_snapshot_id: str, source_region: str, description: str, kms_key_id: str | None
    ) -> Any:
        """The copy has the same bytes."""
        snapshot = super().copy_snapshot(source_snapshot_id, source_region, description, kms_key_id)
        source = _everywhere(source_region).get_snapshot(source_snapshot_id)
        if source.status != "completed":
            self.snapshots.pop(snapshot.id)
            raise EC2ClientError("IncorrectState", f"Snapshot is in invalid state - {source.status}")
        snapshot.volume_size = source.volume_size  # type: ignore[misc]  # ours can be set
        self._keep(snapshot, source_snapshot_id, nullcontext)
        return snapshot

    def _keep(self, snapshot: Any, source: str, frozen: Callable[[], AbstractContextManager[None]]) -> None:
        snapshot.is_being_filled = True
        try:
            self.disks.copy(source, snapshot.id, frozen)
        finally:
            snapshot.is_being_filled = False
        snapshot.full_snapshot_size_in_bytes = self.disks.written_bytes(snapshot.id)
        gib = Fraction(snapshot.full_snapshot_size_in_bytes, 1 << 30)
        self.world.meter.snapshot(snapshot, self.region_name, gib)

    def describe_snapshots(
        self,
        snapshot_ids: list[str] | None = None,
        filters: Any = None,
        owners: list[str] | None = None,
        restorable_by: list[str] | None = None,
    ) -> list[Any]:
        """Those of the owners, or all."""
        for snapshot_id in snapshot_ids or ():
            if snapshot_id not in self.snapshots:
                raise EC2ClientError(
                    "InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist."
                )
        found = [s for s in self.snapshots.values() if not snapshot_ids or s.id in snapshot_ids]
        for scope in filter(None, (owners, restorable_by)):
            found = [snapshot for snapshot in found if self._is_of(snapshot, scope)]
        return generic_filter(filters, found)

    def _is_of(self, snapshot: Any, owners: list[str]) -> bool:
        mine = {"self", self.account_id} if snapshot.owner_id == self.account_id else set()
        return bool({snapshot.owner_id, snapshot.owner_alias, *mine} & set(owners))

    def delete_snapshot(self, snapshot_id: str) -> Any:
        """Its data is deleted with it. What an image is made of stays."""
        for image in self.amis.values():
            if snapshot_id in _snapshots_of(image):
                raise InvalidSnapshotInUse(snapshot_id, image.id)
        if snapshot_id in self.snapshots:
            self.world.meter.end(self.snapshots[snapshot_id])
        answer = super().delete_snapshot(snapshot_id)
        self.disks.remove(snapshot_id)
        return answer

    def freezing(self, volume: Any) -> Callable[[], AbstractContextManager[None]]:
        """What keeps a volume's machines from writing to it."""

        @contextlib.contextmanager
        def frozen() -> Iterator[None]:
            with contextlib.ExitStack() as stack:
                for attachment in volume.attachments:
                    loop = self.disks.device(volume.id, attachment.instance.id)
                    machine = self.world.machine(attachment.instance.id)
                    if loop is not None and machine is not None and self.world.network is not None:
                        stack.enter_context(machine.frozen(loop))
                yield

        return frozen


def _everywhere(region: str) -> Any:
    from moto.ec2.models import ec2_backends

    from runctl.sandbox.world import ACCOUNT

    return ec2_backends[ACCOUNT][region]


def _snapshots_of(image: Any) -> set[str]:
    """The ids in an image's block device mappings."""
    found = set()
    for mapping in image.block_device_mappings or ():
        ebs = mapping.get("Ebs") if isinstance(mapping, dict) else None
        if ebs and ebs.get("SnapshotId"):
            found.add(str(ebs["SnapshotId"]))
    return found
