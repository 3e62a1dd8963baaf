"""From which pools a machine may come, and which are left out and why: pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.errors import CapacityError, NotFound, QuotaExceeded, RunctlError, UsageError
from runctl.core.money import hourly, usd
from runctl.core.text import counted
from runctl.providers.aws.calls.errors import NotOffered
from runctl.providers.aws.ec2.network import Subnet
from runctl.providers.aws.ec2.zones import ZoneChoice
from runctl.providers.capacity import LeftOut, Offer, Pool, pools_text
from runctl.providers.interface import Rate

TOO_DEAR = "too-dear"
"""Code of the error where every offer is above ``--max-price``."""


@dataclass(frozen=True)
class Selection:
    """The pools of a request."""

    offers: tuple[Offer, ...]
    """At least one, the cheapest first; those to be asked last at the end."""
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Limits:
    """What may not be exceeded."""

    max_price: Decimal | None = None
    beyond_quota: Mapping[str, str] | None = None
    """By instance type, why the account may not have one more of it; those that it may have are not in it."""


def select(
    *,
    region: str,
    offered: Mapping[str, Sequence[str]],
    zone: ZoneChoice,
    subnets: Sequence[Subnet],
    price: Callable[[Pool], Rate | None],
    limits: Limits,
    avoid: Collection[Pool] = (),
) -> Selection:
    """The pools of all types and zones that the request allows.

    ``offered`` are the zones that sell each type; ``subnets`` those that can be used, one for each zone. Raises what
    `_nothing_left` has where no pool is left.
    """
    offers: list[Offer] = []
    left_out: list[tuple[LeftOut, type[RunctlError]]] = []
    nets = {subnet.zone: subnet.id for subnet in subnets}
    beyond = limits.beyond_quota or {}
    for kind, zones in offered.items():
        for name in zones:
            pool = Pool(kind, name)
            cost = price(pool)
            if zone.zone is not None and name != zone.zone:
                left_out.append((LeftOut(pool, zone.reason), NotOffered))
            elif name not in nets:
                left_out.append((LeftOut(pool, "the default VPC has no subnet there"), UsageError))
            elif kind in beyond:
                left_out.append((LeftOut(pool, beyond[kind]), QuotaExceeded))
            elif limits.max_price is not None and (cost is None or cost.usd > limits.max_price):
                left_out.append((LeftOut(pool, _dear(cost, limits.max_price), cost), CapacityError))
            else:
                offers.append(Offer(pool, cost, nets[name], pool in avoid))
    if not offers:
        raise _nothing_left(region, offered, zone, left_out)
    return Selection(tuple(sorted(offers, key=_rank)), tuple(item for item, _ in left_out))


def _rank(offer: Offer) -> tuple[bool, Decimal, Pool]:
    return offer.last, Decimal("Infinity") if offer.price is None else offer.price.usd, offer.pool


def _dear(price: Rate | None, most: Decimal) -> str:
    if price is None:
        return f"its price is not known, and the limit is {hourly(most)}"
    return f"above the limit of {hourly(most)}"


def _nothing_left(
    region: str,
    offered: Mapping[str, Sequence[str]],
    zone: ZoneChoice,
    left_out: Sequence[tuple[LeftOut, type[RunctlError]]],
) -> RunctlError:
    """Why no pool is left, and what to do about it."""
    types = (
        " and ".join(offered)
        if len(offered) < 3
        else f"{', '.join(list(offered)[:-1])} or {list(offered)[-1]}"
    )
    if not left_out:
        return NotFound(f"{region} does not offer {types}", hint="another region or instance type")
    kinds = {kind for _, kind in left_out}
    items = [item for item, _ in left_out]
    if QuotaExceeded in kinds:
        own = [item for item, kind in left_out if kind is QuotaExceeded]
        return QuotaExceeded(
            f"the account may not have one more {types}: {own[0].reason}",
            hint="end what you do not need, name other types, or ask for more:"
            " https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas",
        )
    if CapacityError in kinds:
        dear = [item for item, kind in left_out if kind is CapacityError]
        priced = [(item.price.usd, item.pool) for item in dear if item.price is not None]
        cheapest = f"; the cheapest is {min(priced)[1]} for {usd(min(priced)[0])}" if priced else ""
        return CapacityError(
            f"nothing is offered within --max-price: {counted(len(dear), 'pool')} of {types}"
            f" {'is' if len(dear) == 1 else 'are'} {dear[0].reason}{cheapest}",
            hint="raise --max-price, allow more types or zones, or try again later: spot prices move",
            code=TOO_DEAR,
        )
    if UsageError in kinds:
        there = sorted({item.pool.zone for item in items})
        return UsageError(
            f"the default VPC has no subnet in {', '.join(there)}, where {types} is offered",
            hint=f"--subnet subnet-… of such a zone, or `aws ec2 create-default-subnet --availability-zone {there[0]}`",
        )
    zones = tuple(sorted({item.pool.zone for item in items}))
    does = "does" if len(offered) == 1 else "do"
    return NotOffered(
        f"{types} {does} not exist in {zone.zone}",
        zones=zones,
        hint=f"it exists in {', '.join(zones)}; or choose another instance type"
        if len(offered) == 1
        else f"there is {pools_text(item.pool for item in items)}; or choose another instance type",
    )
