"""What a run costs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from runctl.costs.prices import estimate


def test_an_estimate_has_the_machines_and_the_disks_share_of_the_month() -> None:
    assert estimate(Decimal(1), timedelta(hours=73), [Decimal(10)], machines=2) == Decimal(147)
