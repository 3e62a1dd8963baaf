"""The rules of EBS's volume types: what is asked for is checked against them, and completed."""

from __future__ import annotations

from decimal import Decimal

from runctl.core.errors import UsageError
from runctl.core.machine_models import Volume
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.ebs.type_table import TYPES, DiskType

USUAL_TYPE = next(iter(TYPES))

_MIBPS_PER_IOPS = Decimal("0.25")


def checked_shape(type_name: str, size_gib: int, iops: int | None, throughput: int | None) -> DiskShape:
    """The shape with the type's defaults filled in.

    Raises `UsageError` naming the limit and, where a ratio is broken, the numbers that would do.
    """
    disk = TYPES.get(type_name)
    if disk is None:
        raise UsageError(f"{type_name!r} is not a volume type", hint=f"use one of {', '.join(TYPES)}")
    _within(f"{_a(type_name)} volume's size", size_gib, disk.size_gib, "GiB")
    if iops is not None and disk.iops is None:
        raise UsageError(
            f"the IOPS of {_a(type_name)} volume cannot be chosen", hint="use --volume-type gp3, io1 or io2"
        )
    if throughput is not None and disk.throughput is None:
        raise UsageError(
            f"the throughput of {_a(type_name)} volume cannot be chosen", hint="use --volume-type gp3"
        )
    if iops is None and disk.iops_needed:
        raise UsageError(
            f"{_a(type_name)} volume needs a number of IOPS", hint="add --iops, or use --volume-type gp3"
        )
    if disk.iops is not None:
        iops = _checked_iops(type_name, disk, size_gib, iops, throughput)
    if disk.throughput is not None:
        throughput = throughput if throughput is not None else disk.throughput[0]
        _within(f"{_a(type_name)} volume's throughput", throughput, disk.throughput, "MiB/s")
        needed = int(-(-throughput // _MIBPS_PER_IOPS))
        if iops is not None and needed > iops:
            raise UsageError(
                f"{throughput} MiB/s need at least {needed} IOPS (0.25 MiB/s for each), not {iops}",
                hint=f"add --iops {needed}",
            )
    return DiskShape(type_name, size_gib, iops, throughput)


def baseline_mibps(shape: DiskShape) -> float:
    """What such a volume moves when no burst helps it; one of a type that is newer than the table, as much as gp2."""
    if shape.throughput:
        return float(shape.throughput)
    return TYPES.get(shape.type, TYPES["gp2"]).baseline.mibps(shape.size_gib, shape.iops)


def as_gp3(type_name: str, size_gib: int, iops: int | None) -> DiskShape | None:
    """The gp3 volume that is never slower than one of an older type; ``None`` where there is none, or it is one. Pure.

    io2 is left out: it is more durable.
    """
    disk = TYPES["gp3"]
    if type_name not in {"gp2", "io1"} or disk.iops is None or disk.throughput is None:
        return None
    wanted = 3 * size_gib if type_name == "gp2" else iops or 0
    # gp2 ends at 16,000 ("General Purpose SSD volumes" in the EBS user guide).
    wanted = max(disk.iops[0], min(wanted, 16_000) if type_name == "gp2" else wanted)
    throughput = max(disk.throughput[0], int(baseline_mibps(DiskShape(type_name, size_gib, iops, None))))
    try:
        return checked_shape("gp3", size_gib, wanted, throughput)
    except UsageError:
        return None


def chosen_shape(volume: Volume) -> DiskShape:
    """The volume's type and size, with the IOPS and throughput that its type lets one choose."""
    disk = TYPES.get(volume.type)
    return DiskShape(
        volume.type,
        volume.size_gib,
        volume.iops if disk is not None and disk.iops is not None else None,
        volume.throughput if disk is not None and disk.throughput is not None else None,
    )


def shape_text(shape: DiskShape) -> str:
    """Type, IOPS and throughput in one line, for a tag: ``gp3 3000 125``."""
    chosen = TYPES.get(shape.type)
    numbers = (
        shape.iops if chosen is not None and chosen.iops is not None else None,
        shape.throughput if chosen is not None and chosen.throughput is not None else None,
    )
    return " ".join([shape.type, *("-" if number is None else str(number) for number in numbers)])


def shape_from_text(text: str, size_gib: int) -> DiskShape | None:
    """What `shape_text` wrote, for a volume of that size; ``None`` for what it did not write."""
    parts = text.split(" ")
    numbers = [int(part) if part.isdecimal() else None for part in parts[1:]]
    if len(parts) != 3 or parts[0] not in TYPES:
        return None
    try:
        return checked_shape(parts[0], size_gib, *numbers)
    except UsageError:
        return None


def checked_multi_attach(type_name: str) -> None:
    """Raises `UsageError` where a volume of the type cannot be on several instances at once."""
    able = [name for name, disk in TYPES.items() if disk.multi_attach]
    if type_name not in able:
        raise UsageError(
            f"{_a(type_name)} volume cannot be attached to several instances",
            hint=f"--multi-attach needs --volume-type {' or '.join(able)}",
        )


def _checked_iops(
    type_name: str, disk: DiskType, size_gib: int, iops: int | None, throughput: int | None
) -> int:
    limits = disk.iops
    if limits is None:
        raise AssertionError(type_name)
    if iops is None:
        for_throughput = 0 if throughput is None else int(-(-throughput // _MIBPS_PER_IOPS))
        iops = max(limits[0], min(for_throughput, limits[1]))
    _within(f"{_a(type_name)} volume's IOPS", iops, limits, "IOPS")
    # The included 3,000 IOPS of gp3 come with any size; the ratio binds what is added to them.
    most = max(disk.iops_per_gib * size_gib, limits[0])
    if iops > most:
        needed = -(-iops // disk.iops_per_gib)
        raise UsageError(
            f"{size_gib} GiB of {type_name} allow {most} IOPS ({disk.iops_per_gib} for each GiB), not {iops}",
            hint=f"use --size {needed} or --iops {most}",
        )
    return iops


def _a(type_name: str) -> str:
    return f"{'an' if type_name.startswith(('i', 's')) else 'a'} {type_name}"


def _within(what: str, value: int, limits: tuple[int, int], unit: str) -> None:
    low, high = limits
    if not low <= value <= high:
        raise UsageError(f"{what} must be {low:,} to {high:,} {unit}, not {value:,}")
