"""What Lyceum has billed: one sum for each machine, which no day can be cut out of."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.errors import ProviderError
from runctl.core.ids import new_client_token
from runctl.core.journal import Journal
from runctl.core.tags import INTENT, OWNED, OWNED_VALUE
from runctl.providers.abilities.bill import OneSum
from runctl.providers.labels import label_of
from runctl.providers.lyceum.api import BilledSum
from runctl.providers.lyceum.bill import LyceumBill, amount_of
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.settings import LyceumConfig
from runctl.testing.clock import ManualClock
from tests.providers.scripted_rest import ScriptedNetwork

ROOT = "/api/v2/external"
JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
OURS = label_of({OWNED: OWNED_VALUE, INTENT: new_client_token()})
VMS = {
    "vms": [
        {"vm_id": "ours", "status": "terminated", "display_name": OURS},
        {"vm_id": "theirs", "status": "ready", "display_name": "theirs"},
    ]
}
SUMS = {
    "aggregates": [
        {
            "group_by_value": name,
            "count": 3,
            "total_amount": "12.720000",
            "first_created_at": "2026-06-02T10:00:00.123456",
            "last_created_at": "2026-06-02T18:00:00+00:00",
        }
        for name in ("ours", "theirs")
    ]
}


@pytest.fixture
def bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LyceumBill:
    monkeypatch.setenv("LYCEUM_API_KEY", "lk_not-to-be-seen")
    monkeypatch.delenv("LYCEUM_ORG", raising=False)
    settings = LyceumConfig(base_url="https://lyceum.test")
    return LyceumBill(LyceumContext(settings, ManualClock(), tmp_path, Journal()))


def test_what_runctls_machines_came_to_is_read_of_the_organisation_that_pays(
    bill: LyceumBill, network: ScriptedNetwork
) -> None:
    network.answer("GET", f"{ROOT}/vms/list", VMS)
    network.answer("GET", f"{ROOT}/orgs", [{"slug": "mine"}, {"slug": "digits", "is_default": True}])
    network.answer("GET", f"{ROOT}/orgs/digits/transactions/aggregate?category=vms&group_by=vm_id", SUMS)

    (amount,) = bill.amounts(JUNE, JULY)

    assert (amount.day, amount.kind, amount.usage) == ("2026-06-02", "instance", "VM ours")
    assert (amount.usd, amount.preliminary) == (Decimal("12.72"), True)
    assert amount.one_sum == OneSum(
        "ours", datetime(2026, 6, 2, 10, 0, 0, 123456, UTC), datetime(2026, 6, 2, 18, tzinfo=UTC)
    )
    assert network.sent[-1].headers["X-Org-Slug"] == "digits"


def test_an_account_without_machines_of_runctls_is_asked_for_no_bill(
    bill: LyceumBill, network: ScriptedNetwork
) -> None:
    network.answer("GET", f"{ROOT}/vms/list", {"vms": VMS["vms"][1:]})
    assert bill.amounts(JUNE, JULY) == ()


def test_where_nobody_pays_it_is_said(bill: LyceumBill, network: ScriptedNetwork) -> None:
    network.answer("GET", f"{ROOT}/vms/list", VMS)
    network.answer("GET", f"{ROOT}/orgs", [])
    with pytest.raises(ProviderError, match="names no organisation") as raised:
        bill.amounts(JUNE, JULY)
    assert "LYCEUM_ORG" in raised.value.hint


@pytest.mark.parametrize("first", ["2026-06-02T00:00:00Z", None])
def test_a_sum_is_told_whenever_it_was_written_down(first: str | None) -> None:
    found = amount_of(BilledSum("vm", Decimal("-2.5"), first, "2026-06-02T00:00:00"))

    at = datetime(2026, 6, 2, tzinfo=UTC)
    assert (found.usd, found.one_sum) == (Decimal("2.5"), OneSum("vm", at, at))
