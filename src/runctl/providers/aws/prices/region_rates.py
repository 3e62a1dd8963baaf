"""What EBS, S3, ECR and the network cost in a region, by item of AWS's bill. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.costs.rates import Per, Rate, TieredRate
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.prices.items import Item

PER: Mapping[Item, Per] = {
    **dict.fromkeys(Item, Per.GIB_MONTH),
    **dict.fromkeys(
        (item for disk in TYPES.values() for item in (disk.iops_price, disk.throughput_price) if item),
        Per.MONTH,
    ),
    Item.INITIALIZATION: Per.ONCE,
    **dict.fromkeys((Item.PUBLIC_IPV4, Item.NAT_HOUR), Per.HOUR),
    **dict.fromkeys((Item.NAT_GIB, Item.DATA_OUT), Per.GIB),
    **dict.fromkeys((Item.S3_WRITES, Item.S3_READS), Per.REQUESTS),
}
"""What each is billed by; IOPS and MiB/s each by the month."""


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
        disk = TYPES.get(shape.type)
        if disk is None:
            return None
        wanted = [(disk.storage, shape.size_gib)]
        if disk.iops_price is not None:
            wanted.append((disk.iops_price, shape.iops or 0))
        if disk.throughput_price is not None:
            wanted.append((disk.throughput_price, shape.throughput or 0))
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
