"""What a RunPod account has, what it spends, and what it was billed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from runctl.core import tags as tag
from runctl.core.errors import RunctlError
from runctl.core.money import hourly, usd
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.bill import Bill, BilledAmount
from runctl.providers.interface import Check, DoctorStatus
from runctl.providers.labels import tags_of
from runctl.providers.runpod.api import Funds
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import pod_tags

ADD_CREDIT = "add credit at console.runpod.io"
AT_ZERO = "at zero RunPod ends pods with what is on their own disks, and stops those with a network volume"
SOON_HOURS = 24


def hours_left(funds: Funds, more: Decimal = Decimal(0)) -> Decimal | None:
    """How long the balance lasts with so much more an hour; ``None``: for ever, or not known. Pure."""
    if funds.clientBalance is None:
        return None
    spending = (funds.currentSpendPerHr or Decimal(0)) + more
    return max(funds.clientBalance, Decimal(0)) / spending if spending > 0 else None


def funds_check(funds: Funds) -> Check:
    """The line of `runctl doctor`. Pure."""
    name, balance = "runpod: balance", funds.clientBalance
    if balance is None:
        return Check(name, DoctorStatus.SKIPPED, "RunPod does not tell it")
    parts = [usd(balance)]
    if funds.currentSpendPerHr:
        parts.append(f"{hourly(funds.currentSpendPerHr)} is spent now")
    if funds.spendLimit:
        parts.append(f"at most {hourly(funds.spendLimit)} may be")
    left = hours_left(funds)
    if left is not None and balance > 0:
        parts.append(f"enough for {left:.0f} hours")
    status = DoctorStatus.OK
    if left is not None and left < SOON_HOURS:
        status = DoctorStatus.WARNING
    if balance <= 0:
        status = DoctorStatus.FAILED
    fix = "" if status is DoctorStatus.OK else f"{ADD_CREDIT}: {AT_ZERO}"
    return Check(name, status, "; ".join(parts), fix=fix)


def funds_warnings(funds: Funds, per_hour: Decimal) -> tuple[str, ...]:
    """What a plan says of the balance and the limit where a pod of that price may outlast them. Pure."""
    found = []
    left = hours_left(funds, per_hour)
    if left is not None and left < SOON_HOURS:
        found.append(
            f"the balance of {usd(funds.clientBalance or Decimal(0))} lasts for {left:.1f} hours with this pod:"
            f" {AT_ZERO}; {ADD_CREDIT}"
        )
    spending = (funds.currentSpendPerHr or Decimal(0)) + per_hour
    if funds.spendLimit is not None and spending > funds.spendLimit:
        found.append(
            f"with this pod {hourly(spending)} would be spent, and the account's limit is"
            f" {hourly(funds.spendLimit)}: RunPod may refuse it"
        )
    return tuple(found)


class RunPodBill(Bill):
    """By ``/billing``, which lags: pods and network volumes that are ours, or were ended from this computer."""

    hint = "RunPod's bill lags; pods that another computer has ended are not known here to have been runctl's"

    def __init__(self, context: RunPodContext) -> None:
        self._context = context

    def amounts(
        self, since: datetime, until: datetime, progress: Progress = SILENT
    ) -> tuple[BilledAmount, ...]:
        """Day by day."""
        progress.step("asking RunPod what it has billed")
        api = self._context.api
        pods = {pod.id for pod in api.pods() if pod_tags(pod)} | set(self._context.ended_ids())
        volumes = {each.id for each in api.volumes() if tag.is_ours(tags_of(each.name))}
        span = (_stamp(since), _stamp(until))
        found = [
            BilledAmount(each.startTime[:10], "instance", f"pod {each.podId}", each.totalAmount, True)
            for each in api.billed("pods", *span)
            if each.podId in pods
        ]
        found += [
            BilledAmount(
                each.startTime[:10],
                "volume",
                f"network volume {each.networkVolumeId}",
                each.totalAmount,
                True,
            )
            for each in api.billed("network-volumes", *span)
            if each.networkVolumeId in volumes
        ]
        return tuple(found)


def funds_of(context: RunPodContext) -> Funds:
    """What the account has; all of it unknown where that cannot be asked, which is no reason not to rent."""
    try:
        return context.api.funds()
    except RunctlError:
        return Funds()


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
