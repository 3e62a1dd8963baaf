"""The types of EBS volumes: what each allows, what it is billed by, and what else is known of it.

A new type is a row here, with its price items in `runctl.providers.aws.prices.items`. Of the rows follow what the
command line offers, what the price list is asked, prices, and what Terraform is told. Imported for ``--help``: it
imports what is light only.

From "Amazon EBS volume types" in the EBS user guide (gp3 as raised in September 2025); the usage types are those of
the price list (``GetProducts``).
"""

from __future__ import annotations

from collections.abc import Mapping

from runctl._dataclasses import dataclass
from runctl.providers.aws.prices.items import Item


@dataclass(frozen=True)
class Baseline:
    """What a volume moves when no burst helps it, in MiB/s."""

    least: float
    most: float
    per_iops: float = 0.0
    per_tib: float = 0.0
    most_above_gib: int | None = None
    """It is the most for a volume that is larger, and the least for any other."""

    def mibps(self, size_gib: int, iops: int | None) -> float:
        """That of a volume of this size, with so many IOPS chosen."""
        if self.most_above_gib is not None:
            return self.most if size_gib > self.most_above_gib else self.least
        grown = self.per_iops * (iops or 0) + self.per_tib * size_gib / 1024
        return min(self.most, max(self.least, grown))


@dataclass(frozen=True)
class DiskType:
    """What one volume type allows, and how it is billed."""

    size_gib: tuple[int, int]
    storage: Item
    """What a GiB of it costs."""
    usage: str
    """Its name in the price list's usage types; empty: the usage has no name."""
    baseline: Baseline
    """Where no throughput was chosen."""
    iops: tuple[int, int] | None = None
    """``None``: they cannot be chosen."""
    iops_price: Item | None = None
    """``None`` where IOPS cannot be chosen."""
    iops_per_gib: int = 0
    iops_tiers: tuple[int, ...] = ()
    """Where dearer or cheaper IOPS begin; the list has each tier as a product of its own."""
    throughput: tuple[int, int] | None = None
    """MiB/s; ``None``: it cannot be chosen."""
    throughput_price: Item | None = None
    """``None`` where throughput cannot be chosen."""
    minimum_included: bool = False
    """The least IOPS and throughput come with any volume; the price list has only what is paid."""
    iops_needed: bool = False
    multi_attach: bool = False
    offered: bool = True
    """New volumes may be of it; ``False`` for a type of a former generation, which is known all the same."""


TYPES: Mapping[str, DiskType] = {
    "gp3": DiskType(
        (1, 65536),
        Item.GP3,
        "gp3",
        Baseline(125, 125),
        iops=(3000, 80000),
        iops_price=Item.GP3_IOPS,
        iops_per_gib=500,
        throughput=(125, 2000),
        throughput_price=Item.GP3_THROUGHPUT,
        minimum_included=True,
    ),
    "gp2": DiskType((1, 16384), Item.GP2, "gp2", Baseline(125, 250, most_above_gib=170)),
    "io2": DiskType(
        (4, 65536),
        Item.IO2,
        "io2",
        Baseline(25, 4000, per_iops=0.25),
        iops=(100, 256000),
        iops_price=Item.IO2_IOPS,
        iops_per_gib=1000,
        iops_tiers=(32000, 64000),
        iops_needed=True,
        multi_attach=True,
    ),
    "io1": DiskType(
        (4, 16384),
        Item.IO1,
        "piops",
        Baseline(25, 1000, per_iops=0.25),
        iops=(100, 64000),
        iops_price=Item.IO1_IOPS,
        iops_per_gib=50,
        iops_needed=True,
        multi_attach=True,
    ),
    "st1": DiskType((125, 16384), Item.ST1, "st1", Baseline(5, 500, per_tib=40)),
    "sc1": DiskType((125, 16384), Item.SC1, "sc1", Baseline(3, 192, per_tib=12)),
    "standard": DiskType((1, 1024), Item.STANDARD, "", Baseline(40, 40), offered=False),
}
"""By the API's volume type name, in the order in which they are offered; the first is the usual one."""
