"""The ability to say what things cost on AWS; see `runctl.providers.abilities.prices.Prices`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from runctl.core.machine_models import Market
from runctl.costs.rates import Rate, TieredRate
from runctl.providers.abilities.prices import NatPrices, PricePoint, Prices, StoragePrices
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import Group
from runctl.providers.aws.prices.region_rates import RegionRates
from runctl.providers.aws.prices.spot_history import price_at

HISTORY = timedelta(days=90)
"""So far back EC2's spot price history goes."""


@raising_our_errors
class AwsPrices(Prices):
    """From the price list and the spot price history; from the shipped list where AWS cannot be asked."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate | None:
        """On-demand prices are taken to have been the same at ``at``: AWS changes them seldom, and tells no history."""
        book = self._in(region)
        if market is not Market.SPOT:
            return book.on_demand(instance_type)
        if at is None:
            return book.spot(instance_type, zone)
        return price_at(book.spot_history([instance_type], at, at, zone), at)

    def spot_history(
        self, instance_types: Sequence[str], region: str | None, since: datetime, zone: str | None = None
    ) -> tuple[PricePoint, ...]:
        """Of Linux machines, at most `HISTORY` back."""
        return self._in(region).spot_history(instance_types, since, None, zone)

    def volume(
        self,
        volume_type: str,
        size_gib: int,
        iops: int | None,
        throughput: int | None,
        region: str | None,
    ) -> Rate | None:
        """A month of an EBS volume."""
        return self._rates(region, Group.EBS).volume(DiskShape(volume_type, size_gib, iops, throughput))

    def snapshot(self, region: str | None) -> Rate | None:
        """The standard tier."""
        return self._rates(region, Group.EBS).first(Item.SNAPSHOT)

    def public_ip(self, region: str | None) -> Rate | None:
        """In use or idle: AWS asks the same for both."""
        return self._rates(region, Group.NETWORK).first(Item.PUBLIC_IPV4)

    def storage(self, region: str | None) -> StoragePrices | None:
        """S3 Standard."""
        rates = self._rates(region, Group.S3)
        gib, writes, reads = (
            rates.rates.get(Item.S3_STORAGE),
            rates.first(Item.S3_WRITES),
            rates.first(Item.S3_READS),
        )
        return None if gib is None or writes is None or reads is None else StoragePrices(gib, writes, reads)

    def image_storage(self, region: str | None) -> Rate | None:
        """ECR."""
        return self._rates(region, Group.ECR).first(Item.ECR_STORAGE)

    def data_out(self, region: str | None) -> TieredRate | None:
        """The first 100 GiB of a month are free, across all regions."""
        return self._rates(region, Group.NETWORK).rates.get(Item.DATA_OUT)

    def nat(self, region: str | None) -> NatPrices | None:
        """A zonal NAT gateway."""
        rates = self._rates(region, Group.NETWORK)
        hour, gib = rates.first(Item.NAT_HOUR), rates.first(Item.NAT_GIB)
        return None if hour is None or gib is None else NatPrices(hour, gib)

    def _in(self, region: str | None) -> PriceBook:
        book = self._context.prices
        return book if region is None else book.in_region(region)

    def _rates(self, region: str | None, group: Group) -> RegionRates:
        return self._in(region).current_rates(group)
