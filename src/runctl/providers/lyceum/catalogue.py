"""Lyceum's machines: a profile and a number of GPUs, which of them will do, and what they cost. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.errors import CapacityError, NotFound, Unsupported, UsageError
from runctl.core.machine_models import Market
from runctl.core.money import hourly
from runctl.core.names import did_you_mean
from runctl.costs.rates import Per, Rate
from runctl.providers.capacity import LeftOut, Needs, Offer, Pool, RefusalReason
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.lyceum.api import Variant

ANYWHERE = "lyceum"
"""Lyceum has locations and lets nobody choose among them: to runctl it is one."""
SOURCE = "Lyceum's availability"
_TYPE = re.compile(r"([a-z0-9]+)(?:\.([0-9]+)x)?")


@dataclass(frozen=True)
class Profile:
    """What one GPU's share of a machine is. Lyceum's API tells neither."""

    gpu_memory_gb: int
    cpus: int
    memory_gib: int


PROFILES = {
    "l40s": Profile(48, 12, 70),
    "a100": Profile(80, 16, 94),
    "h100": Profile(80, 32, 181),
    "h200": Profile(141, 16, 196),
    "b200": Profile(180, 32, 181),
    "b300": Profile(288, 32, 181),
}
"""As measured on machines of 2026-07-31; of b200 and b300 CPUs and memory are not measured. A profile that is not
here can be named, and is not chosen by ``--gpu-memory``, ``--cpus`` and ``--memory``."""


@dataclass(frozen=True)
class Kind:
    """A profile and how many of its GPUs: what ``--instance-type`` names."""

    profile: str
    gpus: int

    def __str__(self) -> str:
        return f"{self.profile}.{self.gpus}x"


def parse_kind(name: str) -> Kind:
    """``h100.4x``; ``h100`` is a machine with one. Raises `NotFound`."""
    found = _TYPE.fullmatch(name.strip().lower())
    if found is None or (found[2] is not None and int(found[2]) < 1):
        raise NotFound(
            f"{name!r} is not a machine of Lyceum",
            hint="name a GPU and how many, such as h100 or h100.4x: runctl offers --provider lyceum",
            code="instance-type-not-found",
        )
    return Kind(found[1], int(found[2] or 1))


def on_offer(variants: Iterable[Variant], market: Market) -> dict[Kind, Variant]:
    """Every machine that is sold in that market, in stock or not."""
    return {
        Kind(each.hardware_profile, count): each
        for each in variants
        if each.instance_type == market.value
        for count in sorted(set(each.allowed_gpus_per_instance) | set(each.available_gpus_per_instance))
    }


def rate_of(kind: Kind, variant: Variant, now: datetime) -> Rate:
    """An hour of the whole machine."""
    return Rate(variant.price_per_hour * kind.gpus, Per.HOUR, now, SOURCE)


@dataclass(frozen=True)
class Choice:
    """What may be asked for, cheapest first, and what not."""

    offers: tuple[Offer, ...]
    left_out: tuple[LeftOut, ...]


def choose(
    request: InstanceRequest, variants: Sequence[Variant], now: datetime, default: str | None
) -> Choice:
    """The machines that will do; those without stock last, as stock changes within minutes.

    Raises `NotFound`, `UsageError`, `Unsupported`, and `CapacityError` where the price limit leaves none.
    """
    sold = on_offer(variants, request.market)
    kinds = _wanted(request, sold, variants, default)
    offers, left_out = [], []
    for kind in kinds:
        variant = sold[kind]
        offer = Offer(
            Pool(str(kind), ANYWHERE),
            rate_of(kind, variant, now),
            last=kind.gpus not in variant.available_gpus_per_instance,
        )
        price = offer.price
        if request.max_price is not None and price is not None and price.usd > request.max_price:
            left_out.append(LeftOut(offer.pool, RefusalReason.PRICE.value, price))
        else:
            offers.append(offer)
    if not offers and request.max_price is not None:
        cheapest = min(each.price.usd for each in left_out if each.price is not None)
        raise CapacityError(
            f"no machine that will do costs {hourly(request.max_price)} or less",
            hint=f"the cheapest is {hourly(cheapest)}: --max-price {cheapest}",
        )
    if request.avoid:
        offers = [
            *(o for o in offers if o.pool not in request.avoid),
            *(o for o in offers if o.pool in request.avoid),
        ]
    named_first = request.needs is None
    ordered = sorted(
        offers,
        key=lambda each: (each.last, Decimal(0) if named_first or each.price is None else each.price.usd),
    )
    return Choice(tuple(ordered), tuple(left_out))


def _wanted(
    request: InstanceRequest, sold: dict[Kind, Variant], variants: Sequence[Variant], default: str | None
) -> tuple[Kind, ...]:
    named = tuple(filter(None, (request.instance_type, *request.other_types)))
    if request.needs is not None:
        if named:
            raise UsageError(
                f"{named[0]} is named, and needs are stated as well",
                hint="name instance types, or say what the machine needs, not both",
            )
        fitting = tuple(kind for kind in sold if fits(kind, request.needs))
        if not fitting:
            raise NotFound(
                f"Lyceum sells no {request.market.value} machine that has what is needed",
                hint="ask for less: runctl offers --provider lyceum lists its machines",
            )
        return fitting
    if not named and default is None:
        raise UsageError(
            "no instance type is named, and Lyceum has no default",
            hint="--instance-type h100, --gpu H100, or runctl config set lyceum.instance_type h100",
        )
    kinds = tuple(dict.fromkeys(parse_kind(name) for name in named or (default or "",)))
    for kind in kinds:
        if kind not in sold:
            raise _not_sold(kind, request.market, variants)
    return kinds


def _not_sold(kind: Kind, market: Market, variants: Sequence[Variant]) -> Exception:
    profiles = sorted({each.hardware_profile for each in variants} | set(PROFILES))
    if kind.profile not in profiles:
        return NotFound(
            f"Lyceum has no profile {kind.profile!r}",
            hint=did_you_mean(kind.profile, profiles) or f"there are: {', '.join(profiles)}",
            code="instance-type-not-found",
        )
    counts = sorted(each.gpus for each in on_offer(variants, market) if each.profile == kind.profile)
    if counts:
        return NotFound(
            f"Lyceum has no machine with {kind.gpus} {kind.profile} GPUs",
            hint=f"it has them with {', '.join(map(str, counts))}",
            code="instance-type-not-found",
        )
    return Unsupported(
        f"Lyceum does not sell {kind.profile} as {market.value} now",
        hint="leave --spot out, or choose another profile"
        if market is Market.SPOT
        else "choose another profile",
        code="not-offered",
    )


def fits(kind: Kind, needs: Needs) -> bool:
    """Whether it has at least what is needed."""
    profile = PROFILES.get(kind.profile)
    if needs.gpu is not None and _model(needs.gpu) != _model(kind.profile):
        return False
    if kind.gpus < (needs.gpu_count or 1):
        return False
    if profile is None:
        return not (needs.gpu_memory_gb or needs.cpus or needs.memory_gib)
    return (
        profile.gpu_memory_gb >= (needs.gpu_memory_gb or 0)
        and profile.cpus * kind.gpus >= (needs.cpus or 0)
        and profile.memory_gib * kind.gpus >= (needs.memory_gib or 0)
    )


def _model(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
