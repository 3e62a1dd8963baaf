"""A row of the ledger: one rented thing, from its first to its last second, with the price of each interval."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.costs.billing import Interval, accrued


class EntryKind(StrEnum):
    """What is rented."""

    INSTANCE = "instance"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    ADDRESS = "address"
    """A public IPv4 address of an instance."""
    STORAGE = "storage"
    """What a run keeps in an object store, or an image in a registry: as large as it was when it was last looked at."""


class EntryState(StrEnum):
    """How much of a life is known."""

    INTENDED = "intended"
    """It is about to be rented, and may exist."""
    OPEN = "open"
    """It exists, and may cost money at this moment."""
    ENDED = "ended"
    """It does not exist any more, and what the spot market asked for it is still to be looked up."""
    CLOSED = "closed"
    """It does not exist any more: nothing about it changes."""

    @property
    def is_over(self) -> bool:
        """Whether it costs nothing more."""
        return self in {EntryState.ENDED, EntryState.CLOSED}


class By(StrEnum):
    """What spending is summed by."""

    RUN = "run"
    PROJECT = "project"
    USER = "user"
    PROVIDER = "provider"
    KIND = "kind"
    DAY = "day"
    MONTH = "month"


NONE = "-"
"""The key of what belongs to no run, project or user."""


@dataclass(frozen=True)
class ClosedSum:
    """What closed entries of one key came to."""

    key: str
    usd: Decimal
    list_usd: Decimal
    things: int


@dataclass(frozen=True)
class ClosedShare:
    """What closed entries of one project and user came to."""

    project: str | None
    owner: str | None
    usd: Decimal


@dataclass(frozen=True)
class Entry:
    """One rented thing. Times in UTC, whole seconds."""

    kind: EntryKind
    provider: str
    account: str
    region: str
    resource_id: str | None
    """As the provider calls it; ``None`` while that is not known."""
    token: str | None
    """Of the intent to rent it."""
    opened_at: datetime
    """When it was written down."""
    state: EntryState
    intervals: tuple[Interval, ...] = ()
    """The times in which it cost money; where there is a gap, it did not."""
    in_sandbox: bool = False
    """Nobody pays for it."""
    machine: str | None = None
    """The instance that it came with and goes with; of a root disk and an address."""
    part: str = ""
    """Which of the things that come with an instance: ``root``, ``data``, ``address``."""
    zone: str | None = None
    shape: str = ""
    """An instance's type, a volume's size and type."""
    market: str = ""
    project: str | None = None
    owner: str | None = None
    name: str | None = None
    run_id: str | None = None
    """What it was rented for, where that is a run."""
    attempt: int | None = None
    minimum_seconds: int = 0
    """See `runctl.costs.billing.BillingRules.minimum`."""
    seen_at: datetime | None = None
    """When the provider has last said how it is."""
    ended_at: datetime | None = None
    end_reason: str = ""
    """In the provider's words."""
    taken_back: bool = False
    """The provider ended it: a spot machine that was interrupted."""
    estimated: bool = False
    """When it ended is not known from the provider: it is the last moment at which something was heard of it."""
    expected: Decimal | None = None
    """USD that it is going to cost, as far as was known when it was planned."""
    over_budget: bool = False
    """It was rented although a budget was used up."""
    id: int | None = None
    """In the ledger; ``None`` before it is written."""

    @property
    def told_id(self) -> str | None:
        """As the provider calls it: of what is in several regions by one name, the ledger's own has the region."""
        return None if self.resource_id is None else self.resource_id.removesuffix(f" in {self.region}")

    @property
    def minimum(self) -> timedelta:
        """Each uninterrupted time counts as at least so long."""
        return timedelta(seconds=self.minimum_seconds)

    @property
    def current(self) -> Interval | None:
        """What it costs at this moment."""
        last = self.intervals[-1] if self.intervals else None
        return last if last is not None and last.end is None else None

    @property
    def began_at(self) -> datetime | None:
        """When it first cost money."""
        return self.intervals[0].start if self.intervals else None

    def cost(self, until: datetime) -> Decimal:
        """USD from its first second."""
        return accrued(self.intervals, until, self.minimum)

    def list_cost(self, until: datetime) -> Decimal:
        """USD on demand for the same time."""
        return accrued(self.intervals, until, self.minimum, on_demand=True)

    @property
    def has_list_price(self) -> bool:
        """What was paid is not what it costs on demand."""
        return any(interval.list_usd is not None for interval in self.intervals)

    @property
    def is_priced(self) -> bool:
        """Every interval's price is known."""
        return all(interval.usd is not None for interval in self.intervals)
