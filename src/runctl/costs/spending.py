"""What was spent from one moment to another, in one amount: for what is asked often, over a ledger of years.

The database sums the lives that lie within the time; the others, which go on or began before, are few and are cut here.
The amounts are those of `runctl.costs.report`, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.costs.billing import NOTHING
from runctl.costs.entries import ClosedShare, Entry
from runctl.costs.ledger import Ledger

Counts = Callable[[str | None, str | None], bool]
"""Whether what a user rents for a project is counted."""


@dataclass(frozen=True)
class Spending:
    """What there was in a time."""

    since: datetime
    entries: Sequence[Entry] = ()
    """Each is to be cut."""
    closed: Sequence[ClosedShare] = ()
    """The sums of all others."""

    def usd(self, until: datetime, counts: Counts = lambda *_: True) -> Decimal:
        """USD of what ``counts``, to the moment that it was read for."""
        closed = sum((each.usd for each in self.closed if counts(each.project, each.owner)), NOTHING)
        cut = (
            entry.cost(until) - entry.cost(self.since)
            for entry in self.entries
            if counts(entry.project, entry.owner)
        )
        return sum(cut, closed)


def spending(
    ledger: Ledger,
    since: datetime,
    until: datetime,
    *,
    in_sandbox: bool,
    ahead: timedelta = timedelta(0),
) -> Spending:
    """What there was from one moment to the other; what begins up to ``ahead`` later is among the entries, too."""
    return Spending(
        since,
        ledger.cut_by(since, until, in_sandbox=in_sandbox, ahead=ahead),
        ledger.closed_shares(since, until, in_sandbox=in_sandbox),
    )
