"""What a provider can tell of its spot market: prices in the past and now, and how likely capacity is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from runctl.core.errors import Unsupported
from runctl.costs.prices import Price
from runctl.providers.capacity import Pool


@dataclass(frozen=True)
class PricePoint:
    """A spot price that began to hold."""

    pool: Pool
    usd: Decimal
    """An hour."""
    since: datetime


class SpotMarket(ABC):
    """The ability to tell of spot prices and capacity."""

    @abstractmethod
    def price_history(self, instance_types: Sequence[str], since: datetime) -> tuple[PricePoint, ...]:
        """Every price from ``since`` on, and the one that held then, by pool and time.

        Raises `NotFound` for a type that has no spot price.
        """

    @abstractmethod
    def on_demand_prices(self, instance_types: Sequence[str]) -> Mapping[str, Price | None]:
        """An hour of each type on demand."""

    @abstractmethod
    def placement_scores(self, instance_types: Sequence[str]) -> Mapping[str, int] | Unsupported:
        """By zone, from 1 to 10, how likely it is that a machine of one of these types can be had.

        `Unsupported` where nobody says, with the reason.
        """
