"""What RunPod rents now, in both clouds, with its prices and stock."""

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
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities.catalogue import Catalogue, MachineOffer, OfferQuery, Offers
from runctl.providers.runpod.api import GpuType
from runctl.providers.runpod.catalogue import (
    ASK_FOR_GPUS,
    CLOUDS,
    ON_DEMAND_ONLY,
    SOURCE,
    UNTOLD,
    Kind,
    is_model,
    sold,
)
from runctl.providers.runpod.context import RunPodContext

STOCK_KEPT = timedelta(minutes=2)
"""Stock changes within minutes."""


class RunPodOffers(Catalogue):
    """See `Catalogue`. RunPod's two clouds stand where others have regions: their prices differ."""

    def __init__(self, context: RunPodContext, cache_directory: Path) -> None:
        self._context = context
        self._directory = cache_directory

    def offers(self, query: OfferQuery, progress: Progress = SILENT) -> Offers:
        """By one call. There is no spot market, and RunPod does not tell CPUs and memory."""
        needs = query.needs
        if query.market is Market.SPOT:
            raise Unsupported(ON_DEMAND_ONLY, hint="leave --spot out")
        if needs.cpus or needs.memory_gib:
            raise Unsupported(UNTOLD, hint=ASK_FOR_GPUS)
        if query.regions is not None and not set(CLOUDS) & set(query.regions):
            named, clouds = ", ".join(query.regions), " and ".join(CLOUDS)
            raise Unsupported(
                f"RunPod has no region {named}: it has the clouds {clouds}", hint="leave --region out"
            )
        gpus, now = self._gpus(progress)
        count = needs.gpu_count or 1
        found = []
        for cloud in CLOUDS:
            if query.regions is not None and cloud not in query.regions:
                continue
            for gpu in gpus:
                known = sold(gpu, cloud)
                unfit = needs.gpu is not None and not is_model(gpu, needs.gpu)
                if known is None or known[1] < count or unfit or gpu.memory < (needs.gpu_memory_gb or 0):
                    continue
                rate = Rate(known[0] * count, Per.HOUR, now, SOURCE)
                stocked = tuple(each.data_centre for each in gpu.dataCenters if each.availability != "NONE")
                found.append(
                    MachineOffer(
                        provider="runpod",
                        region=cloud,
                        zones=stocked,
                        instance_type=str(Kind(gpu, count)),
                        market=query.market,
                        vcpus=None,
                        memory_gib=None,
                        gpu=gpu.name,
                        gpu_count=count,
                        gpu_memory_gib=Decimal(gpu.memory),
                        price=rate,
                        on_demand=rate,
                        in_stock=gpu.availability != "NONE",
                    )
                )
        return Offers(tuple(found))

    def _gpus(self, progress: Progress) -> tuple[tuple[GpuType, ...], datetime]:
        """The catalogue, and when RunPod said so."""
        account, clock = self._context.api.account, self._context.clock
        kept = PriceCache(self._directory / f"runpod-{digest_of(account.base_url, account.key)}", clock)
        answer = kept.read("gpus", STOCK_KEPT)
        if answer is not None:
            # What is damaged is asked for again.
            with suppress(msgspec.ValidationError):
                return msgspec.convert(answer.content, tuple[GpuType, ...]), answer.at
        progress.step("asking RunPod what it rents")
        gpus = self._context.api.gpus()
        kept.write("gpus", msgspec.to_builtins(gpus))
        return gpus, clock.now()
