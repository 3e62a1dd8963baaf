"""What it costs to fill a volume from a snapshot at a promised rate, and how long that takes.

A provisioned initialisation rate is billed once, by the GiB of data in the snapshot and by the rate.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from runctl.core.errors import UsageError
from runctl.providers.abilities.volume_plans import Initialization
from runctl.providers.aws.prices.region_rates import RegionRates

RATES = (100, 300)
"""MiB/s: the ``VolumeInitializationRate`` that EC2 takes."""


def checked_rate(rate: int) -> int:
    """The rate itself. Raises `UsageError` outside `RATES`."""
    low, high = RATES
    if not low <= rate <= high:
        raise UsageError(f"--initialization-rate must be {low} to {high} MiB/s, not {rate}")
    return rate


def initialization(
    rate: int | None, data_gib: Decimal | None, volume_size_gib: int, rates: RegionRates
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
        rates.initialization(data, rate),
    )
