"""What pods and network volumes cost, by RunPod's own list."""

from __future__ import annotations

from datetime import datetime

from runctl.core.errors import RunctlError
from runctl.core.machine_models import Market
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities.prices import Prices, included
from runctl.providers.runpod.catalogue import SOURCE, parse_kind, sold
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.volumes import price_of


class RunPodPrices(Prices):
    """See `runctl.providers.abilities.prices.Prices`."""

    def __init__(self, context: RunPodContext) -> None:
        self._context = context

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate | None:
        """As it is listed now, in the configured cloud; data centres make no difference."""
        del region, zone, at
        if market is not Market.ON_DEMAND:
            return None
        try:
            kind = parse_kind(instance_type, self._context.api.gpus())
        except RunctlError:
            return None
        known = sold(kind.gpu, self._context.settings.cloud)
        if known is None:
            return None
        return Rate(known[0] * kind.count, Per.HOUR, self._context.clock.now(), SOURCE)

    def volume(
        self,
        volume_type: str,
        size_gib: int,
        iops: int | None,
        throughput: int | None,
        region: str | None,
    ) -> Rate | None:
        """A month of a network volume."""
        del iops, throughput, region
        return price_of(volume_type, size_gib, self._context.clock.now())

    def public_ip(self, region: str | None) -> Rate:
        """Nothing of its own."""
        del region
        return included(self._context.clock.now())
