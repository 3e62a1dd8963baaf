"""Which machine fills a volume, how fast that goes, and what it costs: decisions on plain data.

What moves is bounded by three baselines: the volume's throughput, what the machine moves to and from volumes, and its
network. Bursts are not counted on: they end after half an hour at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.providers.abilities.filling import MachineSpeed

MIB = 1 << 20
BOOT_SECONDS = 90
"""From renting to the first byte, and from the last to the end: billed as well."""
PATIENCE = 1.5
"""A machine that takes this many times as long as the fastest is not chosen, however little it costs."""


@dataclass(frozen=True)
class Estimate:
    """How long something takes, and what it costs."""

    mibps: float
    bound: str
    """What the rate is bounded by, in words."""
    seconds: float
    usd: Decimal | None
    """``None`` where no price is known."""


def estimate(
    volume: float, offer: MachineSpeed | None, size: int, *, rented: bool, network: bool = True
) -> Estimate:
    """Moving ``size`` bytes between the object store (without ``network``: nowhere) and such a volume. Pure."""
    bounds = [(volume, "the volume's throughput")]
    if offer is not None:
        bounds.append((offer.volume_mibps, f"what {offer.instance_type} moves to and from volumes"))
        if network:
            bounds.append((offer.network_mibps, f"the network of {offer.instance_type}"))
    rate, bound = min(bounds, key=lambda pair: pair[0])
    seconds = size / (rate * MIB) + (BOOT_SECONDS if rented else 0)
    cost: Decimal | None = Decimal(0)
    if rented:
        known = offer is not None and offer.price is not None
        cost = offer.price.usd * Decimal(seconds) / 3600 if known and offer and offer.price else None
    return Estimate(rate, bound, seconds, cost)


@dataclass(frozen=True)
class Choice:
    """A machine type and why."""

    offer: MachineSpeed
    estimate: Estimate
    reason: str


def choose(offers: Sequence[MachineSpeed], volume: float, size: int, *, network: bool = True) -> Choice:
    """The cheapest way that is not much slower than the fastest. Pure. ``offers`` must not be empty."""
    found = [(estimate(volume, offer, size, rented=True, network=network), offer) for offer in offers]
    fastest = min(each.seconds for each, _ in found)
    patient = [(each, offer) for each, offer in found if each.seconds <= fastest * PATIENCE]
    priced = [pair for pair in patient if pair[0].usd is not None] or patient
    best, offer = min(priced, key=lambda pair: (pair[0].usd or Decimal(0), pair[0].seconds))
    reason = (
        f"the cheapest of {len(offers)} that is not much slower than the fastest; bounded by {best.bound}"
    )
    return Choice(offer, best, reason)
