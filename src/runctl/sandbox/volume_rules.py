"""What EC2 accepts for a new volume, and how it refuses the rest.

Limits: "Amazon EBS volume types", EC2 user guide, as of 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from moto.ec2.exceptions import EC2ClientError


@dataclass(frozen=True)
class _Limits:
    size: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None


_TYPES = {
    "standard": _Limits((1, 1024)),
    "gp2": _Limits((1, 16384)),
    "gp3": _Limits((1, 65536), (3000, 80000), 500, (125, 2000)),
    "io1": _Limits((4, 16384), (100, 64000), 50),
    "io2": _Limits((4, 65536), (100, 256000), 1000),
    "st1": _Limits((125, 16384)),
    "sc1": _Limits((125, 16384)),
}


def check_volume(kind: str, size_gib: int | None, iops: int | None, throughput: int | None) -> None:
    """Raises EC2's own error for what it would refuse."""
    if kind not in _TYPES:
        raise EC2ClientError("InvalidParameterValue", f"Invalid value '{kind}' for volumeType.")
    limits = _TYPES[kind]
    low, high = limits.size
    if size_gib is not None and not low <= size_gib <= high:
        word = "small" if size_gib < low else "large"
        bound = f"least {low}" if size_gib < low else f"most {high}"
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Volume of {size_gib}GiB is too {word} for volume type {kind}; must be at {bound}GiB.",
        )
    if iops is not None and limits.iops is not None:
        if not limits.iops[0] <= iops <= limits.iops[1]:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Volume iops of {iops} is out of range; it must be from {limits.iops[0]} to {limits.iops[1]}.",
            )
        if size_gib is not None and iops > max(limits.iops[0], size_gib * limits.iops_per_gib):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Iops to volume size ratio of {iops / size_gib:.6f} is too high; maximum is {limits.iops_per_gib}",
            )
    if throughput is not None and limits.throughput is not None:
        first, last = limits.throughput
        if not first <= throughput <= last:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Throughput of {throughput} is out of range; it must be from {first} to {last}.",
            )
