"""Volumes from snapshots and copies of volumes: how far their blocks have come, as DescribeVolumeStatus says it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from moto.ec2.exceptions import EC2ClientError

RATE_MIBPS = (100, 300)
"""What VolumeInitializationRate may be."""
MIB = 1 << 20
COPIES_AT_ONCE = 5
"""EC2's quota of copies that are being initialized, in a region."""


@dataclass
class Initialization:
    """How a volume gets its first bytes."""

    kind: str
    """``default``, ``provisioned-rate`` or ``volume-copy``."""
    written_bytes: int
    rate_mibps: int | None = None
    began: float = field(default_factory=time.monotonic)
    is_completed: bool = False

    def progress(self, now: float, seconds: float) -> int:
        """Percent, when it takes so many seconds in all. What was once completed stays it."""
        share = 1.0 if seconds <= 0 else (now - self.began) / seconds
        self.is_completed = self.is_completed or share >= 1
        return 100 if self.is_completed else int(100 * share)

    def seconds_left(self, progress: int) -> int | None:
        """At the rate that was paid for; ``None`` where none was."""
        if self.rate_mibps is None:
            return None
        return math.ceil(self.written_bytes * (100 - progress) / 100 / (self.rate_mibps * MIB))


def checked_rate(rate: int | None, snapshot_id: str | None) -> int | None:
    """The rate. Raises EC2's own error for one that it does not have."""
    if rate is None:
        return None
    if not snapshot_id:
        raise EC2ClientError(
            "InvalidParameterCombination",
            "The parameter volumeInitializationRate is supported only for volumes created from snapshots.",
        )
    low, high = RATE_MIBPS
    if not low <= rate <= high:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Volume initialization rate of {rate} MiB/s is out of range; it must be from {low} to {high}.",
        )
    return rate
