"""What a planned machine costs with all that comes with it: while it runs, while it is stopped, and when it is gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Market
from runctl.core.money import HOURS_PER_MONTH
from runctl.core.text import time_span
from runctl.costs.rates import hours
from runctl.machines.node_volumes import Sharing
from runctl.machines.nodes import NodeGroupPlan
from runctl.providers.instance_plans import CreatePlan


@dataclass(frozen=True)
class Expected:
    """What it comes to."""

    duration: timedelta
    usd: Decimal
    at_most: bool
    """The machine ends itself then at the latest, and cannot cost more; else somebody has said that the work takes so
    long, or a run's time limit cuts that, which begins when the machine has been set up."""


@dataclass(frozen=True)
class ExpectedCosts:
    """USD; a plan's prices, and what they come to."""

    per_hour: Decimal | None
    """Of the machine with its disks, its volumes and its public address while it runs; ``None``: its own price is not
    known."""
    disks_per_month: Decimal
    """The disks that are created with it, and end with it."""
    volumes_per_month: Decimal
    """The volumes that are attached to it, and stay when it is gone."""
    address_per_hour: Decimal
    """While it runs."""
    stopped_per_month: Decimal | None
    """Its disks and volumes while it is stopped; ``None``: it cannot be."""
    expected: Expected | None


def expected_costs(plan: CreatePlan, estimate: timedelta | None = None) -> ExpectedCosts:
    """For the ``estimate``, or for as long as the machine lives where that is shorter or nothing is said. Pure."""
    brought = {mount.volume for mount in plan.volumes}
    disks = _sum(rate.usd for name, rate in plan.volume_prices.items() if name not in brought)
    volumes = _sum(rate.usd for name, rate in plan.volume_prices.items() if name in brought)
    address = plan.address_price.usd if plan.address_price is not None else Decimal(0)
    per_hour = None
    if plan.price is not None:
        per_hour = plan.price.usd + address + (disks + volumes) / HOURS_PER_MONTH
    # What a budget pays for is said with the budget.
    duration = estimate or (plan.ttl if plan.ttl == plan.longest else None)
    ends_then = duration is not None and plan.longest is not None and plan.longest <= duration
    if ends_then:
        duration = plan.longest
    expected = None
    if per_hour is not None and duration is not None:
        expected = Expected(duration, per_hour * hours(duration), at_most=ends_then)
    return ExpectedCosts(
        per_hour=per_hour,
        disks_per_month=disks,
        volumes_per_month=volumes,
        address_per_hour=address,
        stopped_per_month=disks + volumes if plan.market is Market.ON_DEMAND else None,
        expected=expected,
    )


def estimate_warning(
    plan: CreatePlan, estimate: timedelta | None, timeout: timedelta | None = None
) -> str | None:
    """That what is estimated to take so long is ended before that, in words. Pure."""
    limits = [
        (limit, option)
        for limit, option in ((plan.ttl, "--ttl"), (plan.budget_time, "--budget"), (timeout, "--timeout"))
        if limit is not None
    ]
    if estimate is None or not limits:
        return None
    limit, option = min(limits)
    if limit >= estimate:
        return None
    return (
        f"it is to take {time_span(estimate)} (--estimate), and is ended after {time_span(limit)} ({option})"
    )


@dataclass(frozen=True)
class NodesCosts:
    """USD; what several machines cost with all that comes with them, when as many as at most are rented."""

    per_hour: Decimal | None
    """Of all of them, with their disks and addresses, the volumes that are brought, and their copies; ``None``: the
    price of one is not known."""
    copies_per_hour: Decimal
    """Of that, the copies of volumes."""
    expected: Expected | None


def expected_nodes_costs(plan: NodeGroupPlan, estimate: timedelta | None = None) -> NodesCosts:
    """As `expected_costs`, of all machines. Pure."""
    per_machine = expected_costs(plan.nodes.machine, estimate)
    copies = _sum(each.copies_per_hour for each in plan.volumes)
    shared = _sum(
        (each.volume.price_per_month or Decimal(0)) / HOURS_PER_MONTH
        for each in plan.volumes
        if each.sharing is Sharing.SHARED
    )
    if per_machine.per_hour is None:
        return NodesCosts(None, copies, None)
    # What is brought is there once.
    brought = per_machine.volumes_per_month / HOURS_PER_MONTH
    per_hour = (per_machine.per_hour - brought) * plan.nodes.most + brought + shared + copies
    expected = None
    if per_machine.expected is not None:
        usd = per_hour * hours(per_machine.expected.duration)
        expected = Expected(per_machine.expected.duration, usd, per_machine.expected.at_most)
    return NodesCosts(per_hour, copies, expected)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
