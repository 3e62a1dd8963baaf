"""ModifyVolume: a volume that becomes larger, faster or of another type while it is used, and how often that may be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.utils import generic_filter

from runctl.sandbox.ebs.volume_rules import MULTI_ATTACH_TYPES, TYPES, Shape, checked_shape
from runctl.sandbox.ec2.volumes import SandboxVolume, Volumes

WINDOW = timedelta(hours=24)
MODIFICATIONS_PER_WINDOW = 4
"""The rule since January 2026; before that there were six hours between two modifications."""
POLL_SECONDS = 0.05
FASTEST_BY_DEFAULT = 3000
"""The IOPS that a volume gets with a type that can choose them, unless it is said."""


@dataclass
class Modification:
    """One change of a volume, as DescribeVolumesModifications shows it."""

    volume_id: str
    before: Shape
    after: Shape
    start_time: datetime
    modification_state: str = "modifying"
    progress: int = 0
    end_time: datetime | None = None

    def __getattr__(self, name: str) -> Any:
        """``original_size``, ``target_iops`` and so on: the API's names for the two shapes' fields."""
        which, _, field = name.partition("_")
        shape = {"original": "before", "target": "after"}.get(which)
        if shape is None or field not in Shape.__dataclass_fields__:
            raise AttributeError(name)
        return getattr(getattr(self, shape), field)

    def get_filter_value(self, name: str) -> Any:
        """What moto's filters compare with."""
        try:
            value = getattr(self, name.replace("-", "_"))
        except AttributeError:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid") from None
        return str(value) if isinstance(value, int) else value


def target_shape(
    now: Shape,
    kind: str | None,
    size: int | None,
    iops: int | None,
    throughput: int | None,
    multi_attach: bool | None,
) -> Shape:
    """What the volume is to be, with EC2's defaults for what is not said. Raises EC2's own error."""
    if (kind, size, iops, throughput, multi_attach) == (None,) * 5:
        raise EC2ClientError(
            "InvalidParameterCombination", "No modification is requested: size, type, iops or throughput"
        )
    if size is not None and size < now.size:
        message = f"New size cannot be smaller than existing size ({now.size} GiB)"
        raise EC2ClientError("InvalidParameterValue", message)
    becomes = kind or now.volume_type
    if now.multi_attach_enabled and (becomes != now.volume_type or now.volume_type == "io1"):
        raise EC2ClientError(
            "UnsupportedOperation",
            f"A Multi-Attach enabled {now.volume_type} volume does not support this modification",
        )
    if becomes not in TYPES:
        raise EC2ClientError("UnknownVolumeType", f"Unsupported volume type '{becomes}'.")
    same = becomes == now.volume_type
    limits = TYPES[becomes]
    if iops is None and limits.iops is not None:
        iops = now.iops if same else FASTEST_BY_DEFAULT
    if throughput is None and limits.throughput is not None and same:
        throughput = now.throughput
    shared = now.multi_attach_enabled if multi_attach is None else multi_attach
    if becomes not in MULTI_ATTACH_TYPES and multi_attach is None:
        shared = False
    return checked_shape(becomes, size or now.size, iops, throughput, multi_attach=shared)


def check_may_begin(volume_id: str, earlier: list[Modification], now: datetime) -> None:
    """Raises EC2's own error while one is going on, and when there have been enough for a day."""
    if earlier and earlier[-1].modification_state in {"modifying", "optimizing"}:
        state = earlier[-1].modification_state.upper()
        raise EC2ClientError(
            "IncorrectModificationState",
            f"Volume {volume_id} cannot be modified in modification state {state}",
        )
    recent = [change.start_time for change in earlier if now - change.start_time < WINDOW]
    if len(recent) >= MODIFICATIONS_PER_WINDOW:
        allowed_from = recent[-MODIFICATIONS_PER_WINDOW] + WINDOW
        raise EC2ClientError(
            "VolumeModificationRateExceeded",
            "You've reached the maximum modification rate per volume limit. A volume can be modified up to"
            f" {MODIFICATIONS_PER_WINDOW} times in 24 hours."
            f" Wait until {allowed_from:%Y-%m-%dT%H:%M:%SZ} to modify it again.",
        )


class Modifications(Volumes):
    """Volumes that can be modified."""

    def modify_volume(
        self,
        volume_id: str,
        target_size: int | None = None,
        target_volume_type: str | None = None,
        target_iops: int | None = None,
        target_throughput: int | None = None,
        target_multi_attach_enabled: bool | None = None,
    ) -> Any:
        """It is ``modifying``, then larger and ``optimizing``, then ``completed``. AWS shrinks none."""
        volume: SandboxVolume = self.get_volume(volume_id)  # type: ignore[assignment]
        with self.world.lock:
            if volume.status not in {"available", "in-use"}:
                raise EC2ClientError("IncorrectState", f"{volume_id} is in the '{volume.status}' state.")
            check_may_begin(volume_id, volume.changes, utcnow())
            shape = target_shape(
                volume.shape,
                target_volume_type,
                target_size,
                target_iops,
                target_throughput,
                target_multi_attach_enabled,
            )
            modification = Modification(volume_id, volume.shape, shape, utcnow())
            volume.changes.append(modification)
        self._in_background(self._carry_out, volume, modification)
        return volume

    def describe_volumes_modifications(
        self, volume_ids: list[str] | None = None, filters: Any = None
    ) -> list[Any]:
        """The latest of each volume, as the API says. A volume named that was never modified has none."""
        volumes = [v for v in self.describe_volumes(volume_ids) if isinstance(v, SandboxVolume)]
        for volume in volumes if volume_ids else ():
            if not volume.changes:
                raise EC2ClientError(
                    "InvalidVolumeModification.NotFound",
                    f"Modification for volume '{volume.id}' does not exist.",
                )
        return generic_filter(filters, [volume.changes[-1] for volume in volumes if volume.changes])

    def age_modifications(self, volume_id: str, by: timedelta) -> None:
        """They began that much earlier."""
        volume: SandboxVolume = self.get_volume(volume_id)  # type: ignore[assignment]
        for modification in volume.changes:
            modification.start_time -= by

    def _carry_out(self, volume: SandboxVolume, modification: Modification) -> None:
        began = time.monotonic()
        while time.monotonic() - began < self.world.faults.modifying_seconds:
            time.sleep(POLL_SECONDS)
        if volume.id not in self.volumes:
            return
        self.disks.grow(volume.id, modification.after.size)
        volume.shape = modification.after
        self.world.meter.volume(volume, self.region_name)
        modification.modification_state = "optimizing"
        began = time.monotonic()
        while (done := time.monotonic() - began) < self.world.faults.optimizing_seconds:
            modification.progress = min(int(100 * done / self.world.faults.optimizing_seconds), 99)
            time.sleep(POLL_SECONDS)
        modification.progress, modification.end_time = 100, utcnow()
        modification.modification_state = "completed"
