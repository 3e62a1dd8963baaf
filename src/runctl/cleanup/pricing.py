"""What a resource costs a month while it stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from runctl.core.errors import RunctlError, Unsupported
from runctl.core.machine_models import Market
from runctl.core.money import HOURS_PER_MONTH
from runctl.costs.rates import Rate
from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.abilities.prices import Prices

if TYPE_CHECKING:
    from runctl.machines.session import Session

K = ResourceKind
_GIB = 1 << 30
FREE = frozenset(
    {
        K.GROUP,
        K.FLEET,
        K.SPOT_REQUEST,
        K.LAUNCH_TEMPLATE,
        K.BUCKET,
        K.REPOSITORY,
        K.INSTANCE_PROFILE,
        K.ROLE,
        K.SECURITY_GROUP,
        K.PLACEMENT_GROUP,
        K.KEY_PAIR,
        K.INTENT,
    }
)
"""What costs nothing of its own: what is in it, or what it rents, is listed and priced itself."""


class MonthlyPrices:
    """Prices of what one session's providers list; each question is asked once."""

    def __init__(
        self,
        prices: Callable[[str], Prices | Unsupported],
        bills_stopped: Callable[[str], bool] = lambda _provider: False,
    ) -> None:
        """``prices`` gives a provider's ability by its name, and ``bills_stopped`` is as in `BillingRules`."""
        self._prices = prices
        self._bills_stopped = bills_stopped
        self._instance = cache(self._hourly)

    def __call__(self, resource: Resource) -> Decimal | None:
        """USD a month of 730 hours; ``None``: not known. Of a spot machine at the price of now."""
        if resource.kind in FREE:
            return Decimal(0)
        prices = self._prices(resource.provider)
        if isinstance(prices, Unsupported):
            return None
        try:
            return self._monthly(resource, prices)
        except RunctlError:
            # What something costs is worth less than the list that it is in.
            return None

    def _monthly(self, resource: Resource, prices: Prices) -> Decimal | None:
        gib = None if resource.size_bytes is None else Decimal(resource.size_bytes) / _GIB
        region = resource.region
        if resource.kind is K.INSTANCE:
            if resource.type is None:
                return None
            stopped = resource.state in {"stopped", "stopping"} and not self._bills_stopped(resource.provider)
            if stopped or resource.state == "shutting-down":
                return Decimal(0)
            rate = self._instance(
                resource.provider,
                resource.type,
                region,
                Market(resource.market or "on-demand"),
                resource.zone,
            )
            return None if rate is None else rate.usd * HOURS_PER_MONTH
        if resource.kind is K.VOLUME:
            if gib is None or resource.type is None:
                return None
            found = prices.volume(resource.type, int(gib), resource.iops, resource.throughput, region)
            return None if found is None else found.usd
        if gib is None:
            return None
        per_gib: Rate | None = None
        if resource.kind is K.SNAPSHOT:
            per_gib = prices.snapshot(region)
        elif resource.kind is K.IMAGE:
            per_gib = prices.image_storage(region)
        elif resource.kind in {K.OBJECTS, K.UPLOAD}:
            stored = prices.storage(region)
            per_gib = None if stored is None else stored.gib_month.first
        return None if per_gib is None else per_gib.usd * gib

    def _hourly(
        self, provider: str, instance_type: str, region: str | None, market: Market, zone: str | None
    ) -> Rate | None:
        prices = self._prices(provider)
        if isinstance(prices, Unsupported):
            return None
        return prices.instance(instance_type, region, market, zone)


def monthly_of(session: Session) -> MonthlyPrices:
    """The price of any resource that was listed."""
    return MonthlyPrices(
        lambda name: session.provider(name).prices,
        lambda name: session.provider(name).billing.bills_stopped,
    )
