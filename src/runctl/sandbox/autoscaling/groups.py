"""Auto Scaling groups as they are remembered, and the pure decision what a group does next.

Sources: the Amazon EC2 Auto Scaling user guide ("Health checks", "Auto Scaling groups with multiple instance types and
purchase options", "Capacity Rebalancing", "Scheduled scaling", "Suspend and resume processes").
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)
DISTRIBUTION: Mapping[str, Any] = {
    "OnDemandAllocationStrategy": "prioritized",
    "OnDemandBaseCapacity": 0,
    "OnDemandPercentageAboveBaseCapacity": 100,
    "SpotAllocationStrategy": "lowest-price",
    "SpotMaxPrice": "",
}
"""What a mixed instances policy means where it says nothing: on demand, and the cheapest."""


@dataclass(frozen=True)
class ScheduledAction:
    """A change of a group's sizes at a time; ``None`` leaves a size as it is."""

    name: str
    start: datetime
    desired: int | None
    least: int | None
    most: int | None


@dataclass
class Activity:
    """One launch or termination, as DescribeScalingActivities shows it."""

    id: str
    description: str
    cause: str
    started: datetime
    status: str
    message: str = ""
    ended: datetime | None = None


@dataclass
class Group:
    """One group. Changing it needs the world's lock."""

    name: str
    arn: str
    created: datetime
    subnets: tuple[str, ...]
    least: int
    most: int
    desired: int
    template: Mapping[str, Any]
    """The launch template's specification."""
    overrides: Sequence[Mapping[str, Any]]
    distribution: Mapping[str, Any] | None
    """Of the mixed instances policy; ``None`` for a group that has just a template."""
    capacity_rebalance: bool
    tags: list[dict[str, Any]]
    placement: str = ""
    """The placement group that its instances are launched into."""
    members: dict[str, datetime] = field(default_factory=dict)
    """Instance ids, and since when they are members; in that order."""
    suspended: set[str] = field(default_factory=set)
    scheduled: dict[str, ScheduledAction] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    """Oldest first."""
    deleting: bool = False
    next_launch: float = 0.0
    """On the monotonic clock: no launch before, as one has just failed."""

    @property
    def tag_context(self) -> dict[str, str]:
        """Its tags, as conditions of policies ask for them."""
        return {
            f"{service}:ResourceTag/{tag['Key']}": str(tag.get("Value", ""))
            for tag in self.tags
            for service in ("aws", "autoscaling")
        }


@dataclass(frozen=True)
class Seen:
    """A member as EC2 has it now, the oldest first."""

    instance_id: str
    state: str
    """``pending``, ``running``, ``stopped`` and so on."""
    at_risk: bool = False
    """EC2 has recommended to replace it, or has said that it takes it back."""

    @property
    def is_up(self) -> bool:
        """Whether it counts as healthy: an instance that does not run is not, whatever its grace period."""
        return self.state in ("pending", "running")


@dataclass(frozen=True)
class Step:
    """What the group does now."""

    launch: int = 0
    terminate: tuple[str, ...] = ()
    """Members that are healthy and too many, or replaced."""
    replace: tuple[str, ...] = ()
    """Members that are not healthy: no members any more, and terminated if they still can be."""


def next_step(
    desired: int, members: Sequence[Seen], *, rebalances: bool, suspended: Collection[str] = ()
) -> Step:
    """What brings the group to ``desired`` instances.

    With ``rebalances`` a member that is at risk is replaced as soon as the new one runs, so that the group has more
    than it wants, or may have, for a while. Without, it stays until it is not healthy.
    """
    checks = not {"HealthCheck", "ReplaceUnhealthy"} & set(suspended)
    unhealthy = tuple(each.instance_id for each in members if not each.is_up) if checks else ()
    staying = [each for each in members if each.instance_id not in unhealthy]
    sound = [each for each in staying if not (rebalances and each.at_risk)]
    risky = [each for each in staying if each not in sound]
    launch = max(0, desired - len(sound)) if risky else max(0, desired - len(staying))
    surplus = [each.instance_id for each in sound[: max(0, len(sound) - desired)]]
    if sum(each.state == "running" for each in sound) >= desired:
        surplus += [each.instance_id for each in risky]
    return Step(
        0 if "Launch" in suspended else launch,
        () if "Terminate" in suspended else tuple(surplus),
        unhealthy,
    )


def market_of_next(distribution: Mapping[str, Any] | None, on_demand: int, desired: int) -> str:
    """``spot`` or ``on-demand`` for the next instance of a group with so many ``on_demand`` ones. Pure."""
    if distribution is None:
        return "on-demand"
    settings = {**DISTRIBUTION, **distribution}
    base = int(settings["OnDemandBaseCapacity"])
    share = int(settings["OnDemandPercentageAboveBaseCapacity"]) / 100
    wanted = min(desired, base) + math.ceil(max(0, desired - base) * share)
    return "on-demand" if on_demand < wanted else "spot"


def due(actions: Collection[ScheduledAction], now: datetime) -> list[ScheduledAction]:
    """Those whose time has come, the earliest first."""
    return sorted((each for each in actions if each.start <= now), key=lambda each: each.start)
