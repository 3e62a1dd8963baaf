"""What snapshots cost to keep and to fill volumes from, and how long that takes.

Prices: the public list prices of us-east-1 from the Amazon EBS pricing page. A snapshot in the standard tier is billed
by the GiB-month of the blocks that it does not share with the snapshot before it. A provisioned initialisation rate is
billed once, by the GiB of data in the snapshot and by the rate.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from runctl.core.errors import UsageError
from runctl.costs.prices import Price
from runctl.providers.aws.ebs.types import list_price
from runctl.providers.volume_plans import Initialization

USD_PER_GIB_MONTH = Decimal("0.05")
USD_PER_GIB_AND_MIBPS = Decimal("0.000012")
"""$0.0036 for each GiB at 300 MiB/s."""
RATES = (100, 300)
"""MiB/s: the ``VolumeInitializationRate`` that EC2 takes."""


def checked_rate(rate: int) -> int:
    """The rate itself. Raises `UsageError` outside `RATES`."""
    low, high = RATES
    if not low <= rate <= high:
        raise UsageError(f"--initialization-rate must be {low} to {high} MiB/s, not {rate}")
    return rate


def initialization(
    rate: int | None, data_gib: Decimal | None, volume_size_gib: int, region: str
) -> Initialization:
    """Time and price of filling a volume from a snapshot. Raises `UsageError` for a rate that EC2 does not have."""
    data = Decimal(volume_size_gib) if data_gib is None else data_gib
    if rate is None:
        return Initialization(None, data, data_gib is None, None, None)
    seconds = int(-(-data * 1024 // checked_rate(rate)))
    return Initialization(
        rate,
        data,
        data_gib is None,
        timedelta(seconds=seconds),
        list_price(USD_PER_GIB_AND_MIBPS * data * rate, region),
    )


def snapshot_price(data_gib: Decimal | None, volume_size_gib: int, region: str) -> Price:
    """USD a month at the most: if the snapshot shared nothing with the one before it."""
    return list_price(USD_PER_GIB_MONTH * (volume_size_gib if data_gib is None else data_gib), region)
