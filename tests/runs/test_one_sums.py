"""What of a bill by whole lives is held against the ledger."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.costs.entries import Entry, EntryKind
from runctl.costs.rates import Per
from runctl.providers.abilities.bill import BilledAmount, OneSum
from runctl.runs.one_sums import comparable
from tests.costs.entries import an_entry, at, interval

OCTOBER, NOVEMBER, DECEMBER = at("2026-10-01"), at("2026-11-01"), at("2026-12-01")
KINDS = frozenset({"instance"})


def a_sum(identifier: str, first: str, last: str) -> BilledAmount:
    one_sum = OneSum(identifier, at(first), at(last))
    return BilledAmount(last[:10], "instance", f"VM {identifier}", Decimal(96), one_sum=one_sum)


def a_vm(identifier: str, start: str, end: str | None) -> Entry:
    return an_entry(identifier, interval(start, end, "1"))


@pytest.mark.parametrize(
    ("first", "last", "compared", "named"),
    [
        ("2026-11-01", "2026-11-30 23:59:59", True, False),
        ("2026-11-02", "2026-11-02", True, False),
        ("2026-10-31 23:00", "2026-11-01 01:00", False, True),
        ("2026-11-30 23:00", "2026-12-01", False, True),
        ("2026-10-01", "2027-01-01", False, True),
        ("2026-10-01", "2026-10-31 23:59:59", False, False),
        ("2026-12-01", "2026-12-02", False, False),
    ],
)
def test_of_what_the_ledger_does_not_have_the_days_of_the_sum_decide(
    first: str, last: str, compared: bool, named: bool
) -> None:
    found = comparable([a_sum("vm", first, last)], [], NOVEMBER, DECEMBER, in_one_sum=KINDS)

    assert (len(found.amounts), len(found.left_out)) == (compared, named)


@pytest.mark.parametrize(
    ("start", "end", "compared", "named"),
    [
        ("2026-11-01", "2026-11-02", True, False),
        # Four days are billed, of which two are November's.
        ("2026-10-30", "2026-11-02", False, True),
        ("2026-11-28", "2026-12-01", False, True),
        ("2026-11-28", None, False, True),
        ("2026-10-01", "2026-10-31", False, False),
    ],
)
@pytest.mark.parametrize("written_down", ["2026-11-02 00:10", "2026-12-01 00:10", None])
def test_the_life_that_the_ledger_has_decides_whenever_the_sum_was_written_down(
    start: str, end: str | None, compared: bool, named: bool, written_down: str | None
) -> None:
    sums = [] if written_down is None else [a_sum("vm", written_down, written_down)]
    disk = an_entry(
        "disk", interval(start, end, "1", Per.MONTH), kind=EntryKind.VOLUME, machine="vm", part="root"
    )

    found = comparable(sums, [a_vm("vm", start, end), disk], NOVEMBER, DECEMBER, in_one_sum=KINDS)

    assert len(found.amounts) == (compared and written_down is not None)
    assert len(found.entries) == (2 if compared else 0)
    assert len(found.left_out) == named
    if named:
        known = "instance vm is not compared" if written_down is None else "VM vm is not compared: $96.00"
        assert found.left_out[0].startswith(known)


def test_what_is_billed_by_the_day_is_compared_as_it_is() -> None:
    amount = BilledAmount("2026-11-02", "instance", "BoxUsage", Decimal(1))
    entries = (a_vm("i-1", "2026-10-30", None), a_vm("i-2", "2026-11-30", "2026-12-02"))

    found = comparable([amount], entries, NOVEMBER, DECEMBER)

    assert (found.amounts, found.entries, found.left_out) == ((amount,), entries, ())
