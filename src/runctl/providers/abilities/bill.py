"""What a provider has billed for what carries runctl's tags: the ability to hold the ledger against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.progress import SILENT, Progress


@dataclass(frozen=True)
class OneSum:
    """All that was ever billed for one thing."""

    id: str
    first: datetime
    """When the first part of it was written down; a provider may do that at the end."""
    last: datetime


@dataclass(frozen=True)
class BilledAmount:
    """What one kind of use came to on a day."""

    day: str
    """``2026-05-01``, in UTC."""
    kind: str
    """``instance``, ``volume``, ``snapshot``, ``address``, or in a word what the ledger does not have, such as
    ``traffic``."""
    usage: str
    """In the provider's own words."""
    usd: Decimal
    preliminary: bool = False
    """The provider may still add to it."""
    one_sum: OneSum | None = None
    """Whose it is, where no day can be cut out of it."""


class Bill(ABC):
    """Amounts by day, from the provider's own accounts."""

    asks_for_usd: Decimal = Decimal(0)
    """What the question itself costs."""
    hint = ""
    """What to do where nothing that was billed carries the tags."""
    lacks = ""
    """What of runctl's things the provider does not tell the bill of, in words."""
    in_one_sum: frozenset[str] = frozenset()
    """The kinds of things for each of which the provider tells one sum over all of its time."""

    @abstractmethod
    def amounts(
        self, since: datetime, until: datetime, progress: Progress = SILENT
    ) -> tuple[BilledAmount, ...]:
        """What was billed from one midnight (UTC) to another, of everything that carries runctl's tag, in all regions;
        and every `OneSum`, whenever it was written down.

        Raises `PermissionDenied` where the account may not read it.
        """
