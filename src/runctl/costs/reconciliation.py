"""The ledger held against what was billed: the differences, and what explains them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.costs.billing import NOTHING
from runctl.costs.entries import EntryKind
from runctl.costs.report import CostReport

CENT = Decimal("0.01")
"""A smaller difference is not explained."""
SHARE = Decimal("0.01")
"""Nor is one of a smaller share of what was billed."""


@dataclass(frozen=True)
class Difference:
    """What the ledger and the bill say of one kind of things."""

    kind: str
    ledger_usd: Decimal
    billed_usd: Decimal
    difference_usd: Decimal
    """Billed beyond the ledger; negative where the ledger has more."""
    explanation: str
    """Empty where there is nothing to explain."""


@dataclass(frozen=True)
class Reconciliation:
    """The ledger held against the bill, over whole days in UTC."""

    provider: str
    since: datetime
    until: datetime
    lines: tuple[Difference, ...]
    ledger_usd: Decimal
    billed_usd: Decimal
    preliminary: bool
    """The provider may still add to the bill."""
    hint: str
    """What to do where the bill has nothing."""
    left_out: tuple[str, ...] = ()
    """Sentences about what neither side has, as it cannot be compared."""


def reconcile(
    ledger: Mapping[str, CostReport],
    billed: Mapping[str, Decimal],
    provider: str,
    *,
    since: datetime,
    until: datetime,
    preliminary: bool,
    hint: str,
    left_out: Sequence[str] = (),
) -> Reconciliation:
    """Each kind's difference; ``ledger`` has a report of each kind, ``billed`` are USD by kind."""
    known = {kind: found.usd for kind, found in ledger.items() if found.lines}
    kinds = [kind.value for kind in EntryKind]
    shown = [kind for kind in kinds if kind in known or kind in billed]
    shown += sorted(kind for kind in billed if kind not in kinds)
    nothing = not any(billed.get(kind) for kind in kinds) and any(known.values())
    lines = []
    for kind in shown:
        own, asked = known.get(kind, NOTHING), billed.get(kind, NOTHING)
        lines.append(
            Difference(
                kind,
                own,
                asked,
                asked - own,
                ""
                if nothing
                else _explanation(kind, asked - own, asked, ledger.get(kind), preliminary=preliminary),
            )
        )
    return Reconciliation(
        provider,
        since,
        until,
        tuple(lines),
        sum((line.ledger_usd for line in lines), NOTHING),
        sum((line.billed_usd for line in lines), NOTHING),
        preliminary,
        f"nothing on the bill carries runctl's tag: {hint}" if nothing else "",
        tuple(left_out),
    )


def _explanation(
    kind: str, difference: Decimal, billed: Decimal, ledger: CostReport | None, *, preliminary: bool
) -> str:
    if kind not in {each.value for each in EntryKind}:
        return "not in the ledger"
    if abs(difference) < CENT or abs(difference) < abs(billed) * SHARE:
        return ""
    reasons = []
    if difference < 0 and preliminary:
        reasons.append("the bill is not complete yet")
    if difference < 0 and kind == EntryKind.SNAPSHOT.value:
        reasons.append("the ledger counts all data of a snapshot, the bill what it does not share")
    if difference < 0 and kind == EntryKind.INSTANCE.value:
        reasons.append("a machine is billed from some seconds after its launch")
        reasons.append("discounts, credits and Savings Plans are on the bill alone")
    if kind == EntryKind.STORAGE.value:
        reasons.append("the ledger has what each look found, and layers that images share more than once")
    if difference > 0:
        reasons.append("what another computer has rented and ended is on the bill alone")
    if ledger is not None and difference > 0 and ledger.unpriced:
        reasons.append(f"no price is known of {_some(ledger.unpriced)}")
    if ledger is not None and ledger.estimated:
        reasons.append(f"when {_some(ledger.estimated)} ended is an estimate")
    return "; ".join(reasons)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
