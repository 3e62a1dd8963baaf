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
    assert (amount.usd, amount.preliminary, amount.uncut) == (Decimal("12.72"), True, None)
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


@pytest.mark.parametrize(
    ("first", "last", "compared"),
    [
        ("2026-06-01T00:00:00Z", "2026-06-30T23:59:59Z", True),
        (None, "2026-06-02T00:00:00Z", True),
        ("2026-05-31T23:00:00Z", "2026-06-01T01:00:00Z", False),
        ("2026-06-30T23:00:00Z", "2026-07-01T00:00:00Z", False),
        ("2026-05-01T00:00:00Z", "2026-08-01T00:00:00Z", False),
        ("2026-05-01T00:00:00Z", "2026-05-31T23:59:59Z", None),
        ("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z", None),
    ],
)
def test_a_sum_is_compared_where_all_of_its_time_lies_in_between(
    first: str | None, last: str, compared: bool | None
) -> None:
    found = amount_of(BilledSum("vm", Decimal("-2.5"), first, last), JUNE, JULY)
    if compared is None:
        assert found is None
    else:
        assert found is not None
        assert (found.usd, found.uncut) == (Decimal("2.5"), None if compared else "vm")
