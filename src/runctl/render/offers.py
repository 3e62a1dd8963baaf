"""The table of offers: what machines cost, everywhere that they can be rented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from runctl.core.errors import Unsupported
from runctl.core.money import usd, usd_if_known
from runctl.core.text import time_span
from runctl.providers.abilities.catalogue import MachineOffer, Offers, UnreadRegion
from runctl.render.json import to_builtins
from runctl.render.tables import PLAIN, WIDE, Column, Screen, fit


def offers_table(offers: Sequence[MachineOffer], now: datetime, *, screen: Screen = PLAIN) -> str:
    """One line an offer; prices are of an hour."""
    gpus = any(offer.gpu_count for offer in offers)
    scored = any(offer.score is not None for offer in offers)
    stocked = any(offer.in_stock is not None for offer in offers)
    columns = [
        Column("$/HOUR", [usd(offer.price.usd) for offer in offers], right=True),
        Column("$/GPU", [usd_if_known(offer.usd_per_gpu) for offer in offers], 2, right=True),
        Column("TYPE", [offer.instance_type for offer in offers]),
        Column("GPU", [_gpu(offer) for offer in offers], 1),
        Column("CPUS", [str(offer.vcpus or "") for offer in offers], 4, right=True),
        Column("MEMORY", [_memory(offer) for offer in offers], 4, right=True),
        Column("MARKET", [offer.market.value for offer in offers], 3),
        Column("PROVIDER", [offer.provider for offer in offers], 6),
        Column("REGION", [offer.region for offer in offers]),
        Column("ZONE", [_zones(offer) for offer in offers], 3),
        Column("SCORE", [None if o.score is None else str(o.score) for o in offers], 5, right=True),
        Column("STOCK", [_stock(offer) for offer in offers], 5),
        Column(
            "ON DEMAND",
            [usd_if_known(o.on_demand.usd if o.on_demand else None) for o in offers],
            5,
            right=True,
        ),
        Column("SAVES", [_saves(offer) for offer in offers], 5, right=True),
        Column("AGE", [_age(offer, now) for offer in offers], 7, right=True),
        Column("SOURCE", [offer.price.source for offer in offers], WIDE),
    ]
    spot = any(offer.market.value == "spot" for offer in offers)
    left_out = (
        *(() if gpus else ("$/GPU", "GPU")),
        *(() if scored else ("SCORE",)),
        *(() if stocked else ("STOCK",)),
        *(() if spot else ("ON DEMAND", "SAVES")),
    )
    return fit([column for column in columns if column.header not in left_out], screen)


def unread_text(unread: UnreadRegion) -> str:
    """What could not be read, why, and what to do about it."""
    where = unread.provider if unread.region is None else f"{unread.provider} {unread.region}"
    why = "is left out" if unread.code == Unsupported.code else "could not be read"
    return f"{where} {why}: {unread.reason}" + (f" ({unread.hint})" if unread.hint else "")


def together(unread: Sequence[UnreadRegion]) -> tuple[UnreadRegion, ...]:
    """The same with one entry for all regions of a provider that give one reason. Pure."""
    alike: dict[UnreadRegion, list[str]] = {}
    for each in unread:
        regions = alike.setdefault(replace(each, region=None), [])
        if each.region is not None:
            regions.append(each.region)
    return tuple(replace(each, region=_several(regions)) for each, regions in alike.items())


def _several(regions: Sequence[str]) -> str | None:
    """``us-east-1``, or how many there are and which."""
    if len(regions) < 2:
        return next(iter(regions), None)
    return f"in {len(regions)} regions ({', '.join(regions)})"


def offers_document(found: Offers) -> dict[str, Any]:
    """The same for programs, with the price of each GPU."""
    document: dict[str, Any] = to_builtins(found)
    for row, offer in zip(document["offers"], found.offers, strict=True):
        row["usd_per_gpu"] = to_builtins(offer.usd_per_gpu)
    return document


def _memory(offer: MachineOffer) -> str | None:
    return None if offer.memory_gib is None else f"{offer.memory_gib.normalize():f} GiB"


def _stock(offer: MachineOffer) -> str | None:
    return None if offer.in_stock is None else ("yes" if offer.in_stock else "none now")


def _gpu(offer: MachineOffer) -> str | None:
    if not offer.gpu_count:
        return None
    memory = "" if offer.gpu_memory_gib is None else f" {round(offer.gpu_memory_gib)} GiB"
    return f"{offer.gpu_count} {offer.gpu or 'GPU'}{memory}"


def _zones(offer: MachineOffer) -> str:
    """Of several only their letters, where their names begin with the region's."""
    if len(offer.zones) < 2 or not all(zone.startswith(offer.region or "\n") for zone in offer.zones):
        return ", ".join(offer.zones)
    return ", ".join(zone.removeprefix(offer.region or "") for zone in offer.zones)


def _saves(offer: MachineOffer) -> str | None:
    if offer.on_demand is None or not offer.on_demand.usd:
        return None
    return f"{round(100 * (1 - offer.price.usd / offer.on_demand.usd))} %"


def _age(offer: MachineOffer, now: datetime) -> str:
    return ("" if offer.price.current else "≤ ") + time_span(now - offer.price.as_of)
