"""What can be rented where, at what price: the table of offers, before anything is planned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.rates import Rate
from runctl.providers.capacity import Needs


@dataclass(frozen=True)
class OfferQuery:
    """Which machines are asked for."""

    needs: Needs = field(default_factory=Needs)
    market: Market = Market.ON_DEMAND
    regions: tuple[str, ...] | None = None
    """``None``: every region that the account may use."""


@dataclass(frozen=True)
class MachineOffer:
    """A machine that can be rented."""

    provider: str
    region: str | None
    zones: tuple[str, ...]
    """Where; a spot price is one zone's. Empty where the provider has none."""
    instance_type: str
    market: Market
    vcpus: int | None
    memory_gib: Decimal | None
    """``None``: nobody says."""
    gpu: str | None
    gpu_count: int
    gpu_memory_gib: Decimal | None
    """Of each GPU."""
    price: Rate
    """An hour."""
    on_demand: Rate | None
    """An hour of the same machine on demand, for comparison."""
    score: int | None = None
    """The provider's, from 1 to 10: how likely it is to be had; ``None``: nobody says."""
    in_stock: bool | None = None
    """Whether it can be had now, as far as the provider tells; ``None``: it does not."""

    @property
    def usd_per_gpu(self) -> Decimal | None:
        """An hour of one of its GPUs."""
        return self.price.usd / self.gpu_count if self.gpu_count else None


@dataclass(frozen=True)
class UnreadRegion:
    """A region, or a whole provider, of which nothing is known, and why."""

    provider: str
    region: str | None
    reason: str
    hint: str = ""
    code: str = ""
    """Of the error."""
    exit_code: int = 1
    """What a command ends with that could read nothing else."""


@dataclass(frozen=True)
class Offers:
    """What was found, and what could not be asked."""

    offers: tuple[MachineOffer, ...]
    unread: tuple[UnreadRegion, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing of the offers, such as scores, and why."""


class Catalogue(ABC):
    """The ability to list what can be rented."""

    @abstractmethod
    def offers(self, query: OfferQuery, progress: Progress = SILENT) -> Offers:
        """Every machine that has what is needed; regions are asked side by side.

        A region that cannot be read is in `Offers.unread`. Raises where no region can be told, and `Unsupported` for
        what it never rents whatever is left: spot machines without a spot market, regions that it does not have.
        """
