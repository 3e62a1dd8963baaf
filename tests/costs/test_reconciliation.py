"""Differences between ledger and bill are told, and explained where they are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from runctl.costs.entries import By, Entry, EntryKind
from runctl.costs.rates import Per
from runctl.costs.reconciliation import Reconciliation, reconcile
from runctl.costs.report import CostReport, report
from runctl.providers.aws.bill import amounts_of, kind_of
from runctl.render.costs import reconciliation_text
from tests.costs.entries import an_entry, at, interval

SINCE, UNTIL = at("2026-06-01"), at("2026-06-11")
ENTRIES = [
    an_entry("i-1", interval("2026-06-02", "2026-06-03", "0.50")),
    an_entry(
        "snap-1", interval("2026-06-01", None, "3", Per.MONTH), kind=EntryKind.SNAPSHOT, minimum_seconds=0
    ),
]


def by_kind(entries: Sequence[Entry]) -> dict[str, CostReport]:
    return {
        kind.value: report([entry for entry in entries if entry.kind is kind], By.KIND, SINCE, UNTIL)
        for kind in EntryKind
    }


def held_against(billed: dict[str, str], *, preliminary: bool = False) -> Reconciliation:
    return reconcile(
        by_kind(ENTRIES),
        {kind: Decimal(usd) for kind, usd in billed.items()},
        "aws",
        since=SINCE,
        until=UNTIL,
        preliminary=preliminary,
        hint="activate the tag",
    )


def explained(found: Reconciliation) -> dict[str, str]:
    return {line.kind: line.explanation for line in found.lines}


def test_what_agrees_needs_no_explanation() -> None:
    found = held_against({"instance": "11.995", "snapshot": "1.00"})
    assert explained(found) == {"instance": "", "snapshot": ""}
    assert (found.ledger_usd, found.billed_usd) == (Decimal(13), Decimal("12.995"))
    assert found.hint == ""


def test_each_difference_has_its_own_reason() -> None:
    found = explained(held_against({"instance": "14", "snapshot": "0.20", "traffic": "0.40"}))
    assert "another computer" in found["instance"]
    assert "what it does not share" in found["snapshot"]
    assert found["traffic"] == "not in the ledger"


def test_what_is_an_estimate_explains_its_own_kind_alone() -> None:
    disk = an_entry(
        "vol-1", interval("2026-06-01", "2026-06-05", "3", Per.MONTH), kind=EntryKind.VOLUME, estimated=True
    )
    found = reconcile(
        by_kind([*ENTRIES, disk]),
        {"instance": Decimal(6), "volume": Decimal(3)},
        "aws",
        since=SINCE,
        until=UNTIL,
        preliminary=False,
        hint="",
    )
    assert "when vol-1 ended is an estimate" in explained(found)["volume"]
    assert "vol-1" not in explained(found)["instance"]


def test_a_bill_that_grows_still_is_said_to() -> None:
    found = held_against({"instance": "6", "snapshot": "1"}, preliminary=True)
    assert explained(found)["instance"].startswith("the bill is not complete yet")
    assert "The provider may still add to this bill." in reconciliation_text(found)


def test_what_cannot_be_compared_is_said_below() -> None:
    found = reconcile(
        {},
        {},
        "lyceum",
        since=SINCE,
        until=UNTIL,
        preliminary=False,
        hint="",
        left_out=["VM 1 is not compared"],
    )
    assert reconciliation_text(found).splitlines()[-1] == "VM 1 is not compared"


def test_a_bill_without_our_tag_says_what_to_do() -> None:
    found = held_against({"traffic": "1"})
    assert found.hint == "nothing on the bill carries runctl's tag: activate the tag"


def test_a_person_reads_both_and_the_difference() -> None:
    text = reconciliation_text(held_against({"instance": "12", "snapshot": "0.50"}))
    assert text.splitlines()[2].split() == ["snapshot", "$1.00", "$0.5000", "-$0.5000"]


@pytest.mark.parametrize(
    ("usage", "kind"),
    [
        ("BoxUsage:g5.xlarge", "instance"),
        ("EUC1-SpotUsage:g5.xlarge", "instance"),
        ("EBS:VolumeUsage.gp3", "volume"),
        ("EUC1-EBS:VolumeP-IOPS.gp3", "volume"),
        ("EBS:SnapshotUsage", "snapshot"),
        ("USE1-PublicIPv4:InUseAddress", "address"),
        ("USE1-DataTransfer-Out-Bytes", "traffic"),
        ("NatGateway-Bytes", "traffic"),
        ("TimedStorage-ByteHrs", "storage"),
        ("Requests-Tier1", "requests"),
        ("CW:MetricMonitorUsage", "other"),
    ],
)
def test_a_usage_type_is_of_a_kind(usage: str, kind: str) -> None:
    assert kind_of(usage) == kind


def test_a_days_answer_is_read_and_what_is_nothing_left_out() -> None:
    day = {
        "TimePeriod": {"Start": "2026-06-02", "End": "2026-06-03"},
        "Estimated": True,
        "Groups": [
            {"Keys": ["BoxUsage:g5.xlarge"], "Metrics": {"UnblendedCost": {"Amount": "12.0000000001"}}},
            {"Keys": ["Requests-Tier1"], "Metrics": {"UnblendedCost": {"Amount": "0"}}},
        ],
    }
    (amount,) = amounts_of(day)
    assert (amount.day, amount.kind, amount.usd, amount.preliminary) == (
        "2026-06-02",
        "instance",
        Decimal("12.0000000001"),
        True,
    )
