"""What Lyceum has billed for machines: one sum for each, over all of its time."""

from __future__ import annotations

from datetime import datetime

from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.bill import Bill, BilledAmount, OneSum
from runctl.providers.labels import tags_of
from runctl.providers.lyceum.api import BilledSum
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.machines import time_of


class LyceumBill(Bill):
    """By the organisation's transactions."""

    hint = "Lyceum's bill lags; a machine counts once the first amount of it is written down"
    in_one_sum = frozenset({"instance"})
    lacks = "Block volumes are not compared: Lyceum tells neither their price nor what it bills for them."

    def __init__(self, context: LyceumContext) -> None:
        self._context = context

    def amounts(
        self, since: datetime, until: datetime, progress: Progress = SILENT
    ) -> tuple[BilledAmount, ...]:
        """Of the machines whose names are runctl's, ended ones too, whichever computer rented them."""
        del since, until
        progress.step("asking Lyceum what it has billed")
        api = self._context.api
        ours = {vm.vm_id for vm in api.vms() if tags_of(vm.display_name)}
        billed = api.billed_vms() if ours else ()
        return tuple(amount_of(each) for each in billed if each.group_by_value in ours)


def amount_of(billed: BilledSum) -> BilledAmount:
    """One machine's sum. Pure."""
    last = time_of(billed.last_created_at or billed.first_created_at)
    first = time_of(billed.first_created_at) if billed.first_created_at else last
    return BilledAmount(
        f"{last:%Y-%m-%d}",
        "instance",
        f"VM {billed.group_by_value}",
        # Whether what is taken from the balance is told with a minus is not documented.
        abs(billed.total_amount),
        preliminary=True,
        one_sum=OneSum(billed.group_by_value, first, last),
    )
