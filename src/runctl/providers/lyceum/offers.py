"""What Lyceum rents now, with its prices and whether it is in stock."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from runctl.core.errors import Unsupported
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.kept_answers import PriceCache, digest_of
from runctl.providers.abilities.catalogue import Catalogue, MachineOffer, OfferQuery, Offers
from runctl.providers.lyceum.api import Variant
from runctl.providers.lyceum.catalogue import ANYWHERE, PROFILES, fits, on_offer, rate_of
from runctl.providers.lyceum.context import LyceumContext

STOCK_KEPT = timedelta(minutes=2)
"""Stock changes within minutes."""


class LyceumOffers(Catalogue):
    """See `Catalogue`."""

    def __init__(self, context: LyceumContext, cache_directory: Path) -> None:
        self._context = context
        self._directory = cache_directory

    def _variants(self, progress: Progress) -> tuple[tuple[Variant, ...], datetime]:
        """What is sold, and when Lyceum said so."""
        account, clock = self._context.api.account, self._context.clock
        folder = f"lyceum-{digest_of(account.base_url, account.token, account.organisation)}"
        kept = PriceCache(self._directory / folder, clock)
        answer = kept.read("variants", STOCK_KEPT)
        if answer is not None:
            # What is damaged is asked for again.
            with suppress(msgspec.ValidationError):
                return msgspec.convert(answer.content, tuple[Variant, ...]), answer.at
        progress.step("asking Lyceum what it rents")
        variants = self._context.api.variants()
        kept.write("variants", msgspec.to_builtins(variants))
        return variants, clock.now()

    def offers(self, query: OfferQuery, progress: Progress = SILENT) -> Offers:
        """By one call; Lyceum has no regions to choose among, so a query for some cannot be answered here."""
        if query.regions is not None and ANYWHERE not in query.regions:
            raise Unsupported("Lyceum has no regions to choose among", hint="leave --region out")
        variants, now = self._variants(progress)
        on_demand = on_offer(variants, Market.ON_DEMAND)
        found = []
        for kind, variant in on_offer(variants, query.market).items():
            if not fits(kind, query.needs):
                continue
            profile, compared = PROFILES.get(kind.profile), on_demand.get(kind)
            found.append(
                MachineOffer(
                    provider="lyceum",
                    region=None,
                    zones=(),
                    instance_type=str(kind),
                    market=query.market,
                    vcpus=profile.cpus * kind.gpus if profile else None,
                    memory_gib=Decimal(profile.memory_gib * kind.gpus) if profile else None,
                    gpu=kind.profile.upper(),
                    gpu_count=kind.gpus,
                    gpu_memory_gib=Decimal(profile.gpu_memory_gb) if profile else None,
                    price=rate_of(kind, variant, now),
                    on_demand=rate_of(kind, compared, now) if compared is not None else None,
                    in_stock=kind.gpus in variant.available_gpus_per_instance,
                )
            )
        return Offers(tuple(found))
