"""What EBS, S3, ECR and the network cost in a region, by item of AWS's bill. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from runctl.costs.rates import Per, Rate, TieredRate
from runctl.providers.abilities.volume_plans import DiskShape


class Item(StrEnum):
    """What AWS bills, besides machines."""

    GP3 = "ebs-gp3"
    GP3_IOPS = "ebs-gp3-iops"
    GP3_THROUGHPUT = "ebs-gp3-throughput"
    """MiB/s."""
    GP2 = "ebs-gp2"
    IO1 = "ebs-io1"
    IO1_IOPS = "ebs-io1-iops"
    IO2 = "ebs-io2"
    IO2_IOPS = "ebs-io2-iops"
    ST1 = "ebs-st1"
    SC1 = "ebs-sc1"
    STANDARD = "ebs-standard"
    SNAPSHOT = "ebs-snapshot"
    """What it does not share with the snapshot before it."""
    INITIALIZATION = "ebs-initialization"
    """A GiB of a snapshot's data put onto a volume, for each MiB/s that is promised."""
    PUBLIC_IPV4 = "public-ipv4"
    NAT_HOUR = "nat-hour"
    NAT_GIB = "nat-gib"
    S3_STORAGE = "s3-storage"
    S3_WRITES = "s3-writes"
    S3_READS = "s3-reads"
    DATA_OUT = "data-out"
    ECR_STORAGE = "ecr-storage"


PER: Mapping[Item, Per] = {
    **dict.fromkeys(Item, Per.GIB_MONTH),
    **dict.fromkeys((Item.GP3_IOPS, Item.GP3_THROUGHPUT, Item.IO1_IOPS, Item.IO2_IOPS), Per.MONTH),
    Item.INITIALIZATION: Per.ONCE,
    **dict.fromkeys((Item.PUBLIC_IPV4, Item.NAT_HOUR), Per.HOUR),
    **dict.fromkeys((Item.NAT_GIB, Item.DATA_OUT), Per.GIB),
    **dict.fromkeys((Item.S3_WRITES, Item.S3_READS), Per.REQUESTS),
}
"""What each is billed by; IOPS and MiB/s each by the month."""
_STORAGE = {
    item.value.removeprefix("ebs-"): item
    for item in (Item.GP3, Item.GP2, Item.IO1, Item.IO2, Item.ST1, Item.SC1, Item.STANDARD)
}
_IOPS = {"gp3": Item.GP3_IOPS, "io1": Item.IO1_IOPS, "io2": Item.IO2_IOPS}


@dataclass(frozen=True)
class RegionRates:
    """The rates of a region, as far as they are known."""

    region: str
    rates: Mapping[Item, TieredRate]

    def first(self, item: Item) -> Rate | None:
        """The price of the first paid unit; ``None`` where it is not known."""
        found = self.rates.get(item)
        return None if found is None else found.first

    def volume(self, shape: DiskShape) -> Rate | None:
        """A month of a volume; ``None`` for a type, or something else about it, whose price is not known."""
        if shape.type not in _STORAGE:
            return None
        wanted = [(_STORAGE[shape.type], shape.size_gib)]
        if shape.type in _IOPS:
            wanted.append((_IOPS[shape.type], shape.iops or 0))
        if shape.type == "gp3":
            wanted.append((Item.GP3_THROUGHPUT, shape.throughput or 0))
        total: Rate | None = None
        for item, quantity in wanted:
            rate = self.rates.get(item)
            if rate is None:
                return None
            part = Rate(rate.cost(Decimal(quantity)), Per.MONTH, rate.as_of, rate.source, rate.current)
            total = part if total is None else total.plus(part)
        return total

    def snapshot(self, gib: Decimal | int) -> Rate | None:
        """A month of a snapshot that stores so much."""
        rate = self.first(Item.SNAPSHOT)
        return None if rate is None else rate.times(gib, Per.MONTH)

    def initialization(self, gib: Decimal, mibps: int) -> Rate | None:
        """A volume filled once from a snapshot at a promised rate."""
        rate = self.first(Item.INITIALIZATION)
        return None if rate is None else rate.times(gib * mibps, Per.ONCE)
