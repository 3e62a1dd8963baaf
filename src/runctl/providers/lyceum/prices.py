"""What Lyceum's machines cost: a fixed price for each profile and market, by its own list."""

from __future__ import annotations

from datetime import datetime

from runctl.core.errors import RunctlError
from runctl.core.machine_models import Market
from runctl.costs.rates import Rate
from runctl.providers.abilities.prices import Prices, included
from runctl.providers.lyceum.catalogue import on_offer, parse_kind, rate_of
from runctl.providers.lyceum.context import LyceumContext


class LyceumPrices(Prices):
    """See `runctl.providers.abilities.prices.Prices`."""

    def __init__(self, context: LyceumContext) -> None:
        self._context = context

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate | None:
        """As it is listed now: Lyceum keeps no history."""
        del region, zone, at
        try:
            kind = parse_kind(instance_type)
            variant = on_offer(self._context.api.variants(), market).get(kind)
        except RunctlError:
            return None
        return rate_of(kind, variant, self._context.clock.now()) if variant is not None else None

    def public_ip(self, region: str | None) -> Rate:
        """Nothing of its own."""
        del region
        return included(self._context.clock.now())
