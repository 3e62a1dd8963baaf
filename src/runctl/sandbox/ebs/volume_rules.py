"""What EC2 accepts for a volume's shape, and how it refuses the rest.

Limits: "Amazon EBS volume types", EBS user guide, as of 2026; codes: "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

from dataclasses import dataclass

from moto.ec2.exceptions import EC2ClientError

MULTI_ATTACH_TYPES = ("io1", "io2")


@dataclass(frozen=True)
class Limits:
    """What one volume type allows; ``None`` is what cannot be chosen."""

    size: tuple[int, int]
    """GiB."""
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    iops_needed: bool = False
    throughput: tuple[int, int] | None = None
    """MiB/s."""


TYPES = {
    "standard": Limits((1, 1024)),
    "gp2": Limits((1, 16384)),
    "gp3": Limits((1, 65536), (3000, 80000), 500, throughput=(125, 2000)),
    "io1": Limits((4, 16384), (100, 64000), 50, iops_needed=True),
    "io2": Limits((4, 65536), (100, 256000), 1000, iops_needed=True),
    "st1": Limits((125, 16384)),
    "sc1": Limits((125, 16384)),
}
_MIBPS_PER_IOPS = 0.25
_GP2_IOPS = (100, 16000)


@dataclass(frozen=True)
class Shape:
    """A volume's type and numbers."""

    volume_type: str
    size: int
    iops: int | None
    throughput: int | None
    multi_attach_enabled: bool = False


def checked_shape(
    kind: str, size: int, iops: int | None, throughput: int | None, *, multi_attach: bool = False
) -> Shape:
    """The shape with the defaults that EC2 fills in. Raises EC2's own error for what it would refuse."""
    check_volume(kind, size, iops, throughput, multi_attach=multi_attach)
    limits = TYPES[kind]
    if iops is None and limits.iops is not None:
        iops = limits.iops[0]
    if kind == "gp2":
        iops = min(max(3 * size, _GP2_IOPS[0]), _GP2_IOPS[1])
    if throughput is None and limits.throughput is not None:
        throughput = limits.throughput[0]
    if throughput is not None and iops is not None and throughput > iops * _MIBPS_PER_IOPS:
        raise _value(
            f"Throughput (MiBps) to iops ratio of {throughput / iops:.6f} is too high; maximum is"
            f" {_MIBPS_PER_IOPS:.6f} MiBps per iops"
        )
    return Shape(kind, size, iops, throughput, multi_attach)


def check_volume(
    kind: str, size_gib: int | None, iops: int | None, throughput: int | None, *, multi_attach: bool = False
) -> None:
    """Raises EC2's own error for what it would refuse."""
    if kind not in TYPES:
        raise EC2ClientError("UnknownVolumeType", f"Unsupported volume type '{kind}' for volume creation.")
    limits = TYPES[kind]
    low, high = limits.size
    if size_gib is not None and not low <= size_gib <= high:
        adjective = "small" if size_gib < low else "large"
        bound = f"least {low}" if size_gib < low else f"most {high}"
        raise _value(
            f"Volume of {size_gib}GiB is too {adjective} for volume type {kind}; must be at {bound}GiB."
        )
    if iops is None and limits.iops_needed:
        raise EC2ClientError("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
    if iops is not None:
        _check_iops(kind, limits, size_gib, iops)
    if throughput is not None and limits.throughput is None:
        raise _combination(f"The parameter throughput is not supported for {kind} volumes.")
    if throughput is not None and limits.throughput is not None:
        first, last = limits.throughput
        if not first <= throughput <= last:
            raise _value(f"Throughput of {throughput} is out of range; it must be from {first} to {last}.")
    if multi_attach and kind not in MULTI_ATTACH_TYPES:
        raise _combination(f"The parameter multiAttachEnabled is not supported for {kind} volumes.")


def _check_iops(kind: str, limits: Limits, size_gib: int | None, iops: int) -> None:
    if limits.iops is None:
        raise _combination(f"The parameter iops is not supported for {kind} volumes.")
    first, last = limits.iops
    if not first <= iops <= last:
        raise _value(f"Volume iops of {iops} is out of range; it must be from {first} to {last}.")
    if size_gib is not None and iops > max(first, size_gib * limits.iops_per_gib):
        raise _value(
            f"Iops to volume size ratio of {iops / size_gib:.6f} is too high; maximum is"
            f" {limits.iops_per_gib:.6f}"
        )


def _value(message: str) -> EC2ClientError:
    return EC2ClientError("InvalidParameterValue", message)


def _combination(message: str) -> EC2ClientError:
    return EC2ClientError("InvalidParameterCombination", message)
