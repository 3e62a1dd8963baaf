"""What a provider can tell of its prices: each thing that runctl rents or fills, by region, with its source and age."""

# ruff: noqa: ARG002 (a default needs no arguments, and says what it answers)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Market
from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.providers.capacity import Pool


@dataclass(frozen=True)
class PricePoint:
    """A spot price that began to hold."""

    pool: Pool
    usd: Decimal
    """An hour."""
    since: datetime


def included(now: datetime) -> Rate:
    """The hourly price of a public address where the machine's own price has it. Pure."""
    return Rate(Decimal(0), Per.HOUR, now, "part of the machine's price")


@dataclass(frozen=True)
class StoragePrices:
    """What an object store costs in a region."""

    gib_month: TieredRate
    writes: Rate
    """1,000 requests that write or list."""
    reads: Rate
    """1,000 requests that read."""


@dataclass(frozen=True)
class NatPrices:
    """What a NAT gateway costs that a machine without a public address goes through."""

    hour: Rate
    gib: Rate


class Prices(ABC):
    """The ability to say what things cost.

    ``region`` is the provider's name of one; ``None`` where it has none. A price that nobody can tell is ``None``; one
    that could not be asked for now is an older one, and says so (`Rate.current`, `Rate.as_of`). Whoever tells what
    machines cost has the ability; the rest is not told unless a class says it.
    """

    @abstractmethod
    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate | None:
        """An hour of a machine.

        Of a spot machine at ``at`` (now without it) in its zone; while the zone is open the dearest zone's, so as not
        to promise less.
        """

    def spot_history(
        self, instance_types: Sequence[str], region: str | None, since: datetime, zone: str | None = None
    ) -> tuple[PricePoint, ...]:
        """Every spot price from ``since`` on, and the one that held then, by pool and time.

        Empty for what has no spot price. Raises as any call of a provider does: an answer that is missing is not one
        that says that nothing was charged.
        """
        return ()

    def volume(
        self,
        volume_type: str,
        size_gib: int,
        iops: int | None,
        throughput: int | None,
        region: str | None,
    ) -> Rate | None:
        """A month of a volume; ``iops`` and ``throughput`` (MiB/s) count above what its type includes."""
        return None

    def snapshot(self, region: str | None) -> Rate | None:
        """A GiB-month of what a snapshot does not share with the one before it."""
        return None

    def public_ip(self, region: str | None) -> Rate | None:
        """An hour of a machine's public IPv4 address."""
        return None

    def storage(self, region: str | None) -> StoragePrices | None:
        """The object store."""
        return None

    def image_storage(self, region: str | None) -> Rate | None:
        """A GiB-month in the image registry."""
        return None

    def data_out(self, region: str | None) -> TieredRate | None:
        """A GiB from the region to the internet."""
        return None

    def nat(self, region: str | None) -> NatPrices | None:
        """A NAT gateway."""
        return None


class FreePrices(Prices):
    """Of a computer that is not rented: everything on it costs nothing."""

    def __init__(self, source: str) -> None:
        """``source`` says why, for a person."""
        self._source = source

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate:
        """Nothing."""
        del instance_type, region, market, zone
        return self._nothing(Per.HOUR, at)

    def spot_history(
        self, instance_types: Sequence[str], region: str | None, since: datetime, zone: str | None = None
    ) -> tuple[PricePoint, ...]:
        """It has no spot prices."""
        del instance_types, region, since, zone
        return ()

    def volume(
        self,
        volume_type: str,
        size_gib: int,
        iops: int | None,
        throughput: int | None,
        region: str | None,
    ) -> Rate:
        """Nothing."""
        del volume_type, size_gib, iops, throughput, region
        return self._nothing(Per.MONTH)

    def snapshot(self, region: str | None) -> Rate:
        """Nothing."""
        del region
        return self._nothing(Per.GIB_MONTH)

    def public_ip(self, region: str | None) -> Rate:
        """Nothing."""
        del region
        return self._nothing(Per.HOUR)

    def storage(self, region: str | None) -> StoragePrices:
        """Nothing."""
        del region
        requests = self._nothing(Per.REQUESTS)
        return StoragePrices(self._nothing_at_all(Per.GIB_MONTH), requests, requests)

    def image_storage(self, region: str | None) -> Rate:
        """Nothing."""
        del region
        return self._nothing(Per.GIB_MONTH)

    def data_out(self, region: str | None) -> TieredRate:
        """Nothing."""
        del region
        return self._nothing_at_all(Per.GIB)

    def nat(self, region: str | None) -> NatPrices:
        """Nothing."""
        del region
        return NatPrices(self._nothing(Per.HOUR), self._nothing(Per.GIB))

    def _nothing(self, per: Per, at: datetime | None = None) -> Rate:
        return Rate(Decimal(0), per, at or datetime.now(UTC), self._source)

    def _nothing_at_all(self, per: Per) -> TieredRate:
        return TieredRate((Tier(Decimal(0), Decimal(0)),), per, datetime.now(UTC), self._source)
