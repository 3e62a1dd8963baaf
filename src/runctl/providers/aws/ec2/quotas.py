"""How many vCPUs the account may have more of, by kind of machine and market; looked at before anything is launched.

Sources: "Amazon EC2 instance type quotas" in the EC2 user guide, and Service Quotas' codes. A quota that cannot be
looked up, or is not known here, is taken as wide enough: EC2 has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Market
from runctl.core.progress import Progress
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.ec2.images import describe_instance_types

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession
    from runctl.providers.aws.ec2.images import InstanceType


@dataclass(frozen=True)
class Quota:
    """One quota of Service Quotas, in vCPUs."""

    code: str
    name: str


_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
_BY_FAMILY: tuple[tuple[str, Quota, Quota], ...] = (
    (
        r"(g|gr|vt)\d",
        Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
        Quota("L-3819A6DF", "All G and VT Spot Instance Requests"),
    ),
    (
        r"p[234]",
        Quota("L-417A185B", "Running On-Demand P instances"),
        Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
    ),
    (
        r"p5",
        Quota("L-417A185B", "Running On-Demand P instances"),
        Quota("L-C4BD4855", "All P5 Spot Instance Requests"),
    ),
    (
        r"inf\d",
        Quota("L-1945791B", "Running On-Demand Inf instances"),
        Quota("L-B5D1601B", "All Inf Spot Instance Requests"),
    ),
    (
        r"trn\d",
        Quota("L-2C3B7624", "Running On-Demand Trn instances"),
        Quota("L-6B0D517C", "All Trn Spot Instance Requests"),
    ),
    (
        r"dl\d",
        Quota("L-6E869C2A", "Running On-Demand DL instances"),
        Quota("L-85EED4F7", "All DL Spot Instance Requests"),
    ),
    (
        r"x\d",
        Quota("L-7295265B", "Running On-Demand X instances"),
        Quota("L-E3A00192", "All X Spot Instance Requests"),
    ),
    (
        r"[acdhimrtz]\d|im\d|is\d",
        Quota("L-1216C47A", f"Running On-Demand {_STANDARD} instances"),
        Quota("L-34B43A08", f"All {_STANDARD} Spot Instance Requests"),
    ),
)
"""Families, the on-demand quota and the spot quota."""


def quota_of(instance_type: str, market: Market) -> Quota | None:
    """The quota that a machine counts against; ``None``: not known. Pure."""
    for family, on_demand, spot in _BY_FAMILY:
        if re.match(family, instance_type):
            return spot if market is Market.SPOT else on_demand
    return None


def beyond_quota(
    types: Sequence[InstanceType],
    market: Market,
    limits: Mapping[Quota, int],
    used: Mapping[Quota, int],
    count: int = 1,
) -> dict[str, str]:
    """Of which types the account may not have so many more, each with the reason. Pure."""
    found = {}
    for each in types:
        quota = quota_of(each.name, market)
        if quota is None or quota not in limits:
            continue
        free = limits[quota] - used.get(quota, 0)
        if each.vcpus * count > free:
            vcpus = f"it has {each.vcpus} vCPUs" if count == 1 else f"{count} have {each.vcpus * count} vCPUs"
            found[each.name] = (
                f"{vcpus}, and {max(free, 0)} of {limits[quota]} are free in the quota"
                f' "{quota.name}" ({quota.code})'
            )
    return found


def find_beyond_quota(
    session: AwsSession, types: Sequence[InstanceType], market: Market, progress: Progress, count: int = 1
) -> dict[str, str]:
    """As `beyond_quota`, by what AWS says now."""
    quotas = {quota for each in types if (quota := quota_of(each.name, market)) is not None}
    limits = {quota: limit for quota in quotas if (limit := limit_of(session, quota, progress)) is not None}
    return beyond_quota(types, market, limits, used_of(session), count) if limits else {}


def limit_of(session: AwsSession, quota: Quota, progress: Progress) -> int | None:
    """In vCPUs; ``None`` where it cannot be looked up."""
    try:
        answer = session.quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
        return int(answer["Quota"]["Value"])
    except Exception as error:  # noqa: BLE001 (a quota is looked at where it can be; EC2 enforces it in any case)
        progress.detail(f"the quota {quota.code} cannot be looked up: {error}")
        return None


def used_of(session: AwsSession) -> dict[Quota, int]:
    """vCPUs of all the account's machines that count, ours and others'."""
    counting = {"instance-state-name": ["pending", "running"]}
    running = [
        (
            str(item["InstanceType"]),
            Market.SPOT if item.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        )
        for item in describe_exactly(session.ec2, "describe_instances", counting)
    ]
    names = sorted({name for name, _ in running})
    vcpus = {each.name: each.vcpus for each in describe_instance_types(session, names)} if names else {}
    used: dict[Quota, int] = {}
    for name, market in running:
        quota = quota_of(name, market)
        if quota is not None:
            used[quota] = used.get(quota, 0) + vcpus[name]
    return used
