"""CopyVolumes: a volume with the bytes that another has now, in the same zone, which is initialized meanwhile."""

from __future__ import annotations

import time
from typing import Any

from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.initialization import COPIES_AT_ONCE, Initialization
from runctl.sandbox.ec2.modifications import Modifications
from runctl.sandbox.ec2.volumes import SandboxVolume


class Copies(Modifications):
    """Volumes that are copied."""

    def copy_volume(
        self,
        source_id: str,
        *,
        size: int | None,
        encrypted: bool,
        kms_key_id: str | None,
        **shape: Any,
    ) -> SandboxVolume:
        """A copy. What is not said of its shape is CreateVolume's default and not the source's, but for the size."""
        source: SandboxVolume = self.get_volume(source_id)  # type: ignore[assignment]
        with self.world.lock:
            self._check_copy(source, size)
            copy: SandboxVolume = self.create_volume(
                size or int(source.size),
                source.availability_zone or "",
                encrypted=bool(source.encrypted or encrypted or kms_key_id),
                kms_key_id=kms_key_id or source.kms_key_id,
                **shape,
            )
            copy.source_volume_id = source.id
            written = self.disks.written_bytes(source.id)
            copy.initialization = Initialization("volume-copy", written)
        with self.filling(copy):
            self.disks.copy(source.id, copy.id, self.freezing(source))
            self.disks.grow(copy.id, int(copy.size))
        return copy

    def initialization_progress(self, volume: SandboxVolume) -> int | None:
        """Percent; ``None`` for a volume that began empty."""
        if volume.initialization is None:
            return None
        blocks = self.disks.missing_blocks(volume.id)
        if blocks is not None:
            missing, total = blocks
            return 100 if missing == 0 else 100 * (total - missing) // total
        return volume.initialization.progress(time.monotonic(), self.world.faults.initializing_seconds)

    def _check_copy(self, source: SandboxVolume, size: int | None) -> None:
        """Raises EC2's own error where "Copy an Amazon EBS volume" of the EBS user guide says that it cannot be."""
        if source.status not in {"available", "in-use"}:
            raise EC2ClientError("IncorrectState", f"Volume '{source.id}' is in the '{source.status}' state.")
        if source.changes and source.changes[-1].modification_state == "modifying":
            raise EC2ClientError(
                "IncorrectModificationState",
                f"Volume {source.id} cannot be copied in modification state MODIFYING",
            )
        if size is not None and size < int(source.size):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Volume of {size}GiB is smaller than volume '{source.id}', expect size >= {source.size}GiB",
            )
        going_on = [copy for copy in self.volumes.values() if self._is_copy_in_progress(copy)]
        if source in going_on:
            raise EC2ClientError("IncorrectState", f"Volume copy '{source.id}' is being initialized.")
        if len(going_on) >= COPIES_AT_ONCE or any(
            getattr(copy, "source_volume_id", None) == source.id for copy in going_on
        ):
            raise EC2ClientError(
                "CopyVolumesLimitExceeded", "The maximum number of in-progress volume copies is reached."
            )

    def _is_copy_in_progress(self, volume: Any) -> bool:
        if volume.initialization is None or volume.initialization.kind != "volume-copy":
            return False
        return self.initialization_progress(volume) != 100
