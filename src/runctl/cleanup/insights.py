"""What could be had for less, or not at all: each with the saving and the command. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.cleanup.eligibility import not_ours
from runctl.cleanup.facts import Facts, RunFact
from runctl.cleanup.plan import Monthly
from runctl.core.machine_models import Market
from runctl.core.text import counted, time_span
from runctl.providers.abilities.inventory import (
    MEASURED_HOURS,
    Alternative,
    Measurement,
    Resource,
    ResourceKind,
)
from runctl.providers.registry import command, volume_command

K = ResourceKind
LONG = timedelta(days=1)
"""A machine that is older is rarely meant to be."""
UNATTACHED = timedelta(days=7)
SUPERSEDED = timedelta(days=7)
KEPT_LONG = timedelta(days=30)
IDLE_GPU_PERCENT = 5.0
IDLE_CPU_PERCENT = 5.0
"""Of all processors, in the busiest hour of a day: a machine that nobody needs."""
HALF_CPU_PERCENT = 40.0
"""Of all processors, in the busiest hour of a day: half of them would have done."""
LITTLE_CPU_PERCENT = 10.0
"""Of one processor, as the kernel counts a process."""


class InsightKind(StrEnum):
    """What was noticed."""

    RUNS_LONG = "runs-long"
    IDLE_GPU = "idle-gpu"
    IDLE = "idle"
    OVERSIZED = "oversized"
    ON_DEMAND = "on-demand"
    CHEAPER_TYPE = "cheaper-type"
    OVER_PROVISIONED = "over-provisioned"
    STOPPED = "stopped"
    UNATTACHED = "unattached"
    SUPERSEDED = "superseded"
    OLD_RESULTS = "old-results"
    OLD_IMAGE = "old-image"


@dataclass(frozen=True)
class Usage:
    """What the runs on a machine use at the moment, together."""

    cpu_percent: float | None
    """Of one processor."""
    gpu_percent: float | None
    """The mean of the machine's GPUs."""


@dataclass(frozen=True)
class Insight:
    """One thing to change."""

    kind: InsightKind
    resource: Resource
    message: str
    usd_per_month: Decimal | None
    """What it saves; ``None``: not known."""
    command: str


@dataclass(frozen=True)
class Measured:
    """What an insight needs beside the resources."""

    usage: Mapping[str, Usage] = field(default_factory=dict)
    """By instance."""
    alternatives: Mapping[str, Sequence[Alternative]] = field(default_factory=dict)
    """By volume: the same for less. By machine: a smaller one."""
    provider: Mapping[str, Measurement] = field(default_factory=dict)
    """What the provider has measured of the last day, by resource."""
    regions: Mapping[str, str | None] = field(default_factory=dict)
    """By provider, where its commands look when nobody names a region."""


def insights(
    resources: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> list[Insight]:
    """Of the caller's own resources, what saves most first. Pure."""
    own = [each for each in resources if not_ours(each, facts) is None]
    found = [
        _there(insight, measured)
        for rule in (_machines, _volumes, _snapshots, _results, _images)
        for insight in rule(own, facts, now, monthly, measured)
    ]
    return sorted(found, key=lambda each: (-(each.usd_per_month or Decimal(0)), each.resource.id))


def _there(insight: Insight, measured: Measured) -> Insight:
    """With the region in the command, where it would look elsewhere."""
    provider, region = insight.resource.provider, insight.resource.region
    home = measured.regions.get(provider)
    if home is None or region in {None, home} or not insight.command.startswith(command(provider)):
        return insight
    return replace(insight, command=f"{insight.command} --region {region}")


Rule = Callable[[Sequence[Resource], Facts, datetime, Monthly, Measured], Iterator[Insight]]


def _machines(
    own: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> Iterator[Insight]:
    busy = {run.instance_id for run in facts.runs if run.goes_on}
    for machine in own:
        if machine.kind is not K.INSTANCE:
            continue
        cost, terminate = monthly(machine), command(machine.provider, "terminate", machine.id)
        if machine.state == "stopped" and machine.provider in facts.cannot_stop:
            yield Insight(
                InsightKind.STOPPED,
                machine,
                "it has shut itself down, and nobody knows that it costs nothing now",
                cost,
                terminate,
            )
            continue
        if machine.state == "stopped":
            disks = _sum(monthly(each) for each in own if each.ends_with == machine.id)
            yield Insight(
                InsightKind.STOPPED,
                machine,
                "it is stopped, and its own disks cost all the same",
                disks,
                terminate,
            )
            continue
        if machine.state != "running":
            continue
        if machine.id not in busy and _older(machine, now, LONG):
            yield Insight(
                InsightKind.RUNS_LONG,
                machine,
                f"it runs for {_age(machine, now)}, and no run of this computer is on it",
                cost,
                terminate,
            )
        yield from _measured(machine, facts, cost, measured)
        spot = monthly(replace(machine, market=Market.SPOT.value)) if machine.market == "on-demand" else None
        if cost is not None and spot is not None and spot < cost:
            what = [machine.type or "", *(["--zone", machine.zone] if machine.zone else [])]
            yield Insight(
                InsightKind.ON_DEMAND,
                machine,
                "it is rented on demand: a spot machine with checkpoints does the same work",
                cost - spot,
                command(machine.provider, "create", *what, "--spot"),
            )


def _measured(machine: Resource, facts: Facts, cost: Decimal | None, measured: Measured) -> Iterator[Insight]:
    """By the machine's own agent where it has answered, else by its provider."""
    usage = measured.usage.get(machine.id)
    run = next((each for each in facts.runs if each.goes_on and each.instance_id == machine.id), None)
    if usage is None or run is None:
        yield from _measured_from_outside(machine, run, cost, measured)
        return
    if usage.gpu_percent is not None and usage.gpu_percent < IDLE_GPU_PERCENT:
        yield Insight(
            InsightKind.IDLE_GPU,
            machine,
            f"{run.id} uses {usage.gpu_percent:.0f} % of its GPUs at the moment",
            cost,
            f"runctl runs logs {run.id}",
        )
    elif (
        usage.gpu_percent is None and usage.cpu_percent is not None and usage.cpu_percent < LITTLE_CPU_PERCENT
    ):
        yield _oversized(
            machine, f"{run.id} uses {usage.cpu_percent:.0f} % of one processor at the moment", cost, measured
        )


def _measured_from_outside(
    machine: Resource, run: RunFact | None, cost: Decimal | None, measured: Measured
) -> Iterator[Insight]:
    found = measured.provider.get(machine.id)
    # Of a machine with GPUs the processors say nothing: what trains there may need one of many.
    if found is None or found.gpus or found.hours < MEASURED_HOURS:
        return
    mean, highest = found.cpu_percent, found.highest_cpu_percent
    if mean is None or highest is None:
        return
    used = f"in {found.hours} hours it has used {mean:.0f} % of its processors, {highest:.0f} % in the busiest hour"
    if highest < IDLE_CPU_PERCENT and run is None:
        yield Insight(
            InsightKind.IDLE, machine, used, cost, command(machine.provider, "terminate", machine.id)
        )
    elif highest < HALF_CPU_PERCENT:
        yield _oversized(machine, used, cost, measured)


def _oversized(machine: Resource, used: str, cost: Decimal | None, measured: Measured) -> Insight:
    """With the next smaller machine, where it is known what that costs."""
    smaller = next(iter(measured.alternatives.get(machine.id, ())), None)
    if smaller is None or cost is None or smaller.usd_per_month >= cost:
        message, saving = f"{used}: a smaller machine may do", None
        return Insight(
            InsightKind.OVERSIZED, machine, message, saving, command(machine.provider, "status", machine.id)
        )
    return Insight(
        InsightKind.OVERSIZED,
        machine,
        f"{used}: {smaller.text}",
        cost - smaller.usd_per_month,
        command(machine.provider, "create", *smaller.options),
    )


def _volumes(
    own: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> Iterator[Insight]:
    needed = {volume for run in facts.runs if run.unfinished for volume in run.volumes}
    for volume in own:
        if volume.kind is not K.VOLUME:
            continue
        cost = monthly(volume)
        unattached = not volume.attached_to and _older(volume, now, UNATTACHED) and volume.id not in needed
        if unattached and not volume.is_persistent:
            yield Insight(
                InsightKind.UNATTACHED,
                volume,
                f"it is attached to nothing, and {_age(volume, now)} old",
                cost,
                f"runctl resources cleanup {volume.id} --include volumes",
            )
        for other in measured.alternatives.get(volume.id, ()):
            if cost is not None and other.usd_per_month < cost:
                yield Insight(
                    InsightKind.OVER_PROVISIONED if other.by_use else InsightKind.CHEAPER_TYPE,
                    volume,
                    other.text,
                    cost - other.usd_per_month,
                    volume_command(volume.provider, "resize", volume.id, *other.options),
                )


def _snapshots(
    own: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> Iterator[Insight]:
    del facts, measured
    by_volume: dict[tuple[str | None, str], list[Resource]] = {}
    for each in own:
        if each.kind is K.SNAPSHOT and each.source and each.state == "completed" and each.created_at:
            by_volume.setdefault((each.region, each.source), []).append(each)
    for (_, volume), several in by_volume.items():
        *older, newest = sorted(several, key=lambda each: (each.created_at, each.id))
        for each in older:
            if _older(each, now, SUPERSEDED) and not each.is_persistent:
                yield Insight(
                    InsightKind.SUPERSEDED,
                    each,
                    f"{newest.name or newest.id} is a newer copy of {volume}; it saves less where they share data",
                    monthly(each),
                    volume_command(each.provider, "snapshot-delete", each.id),
                )


def _results(
    own: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> Iterator[Insight]:
    del measured
    runs: dict[str | None, RunFact] = {run.id: run for run in facts.runs}
    for each in own:
        if each.kind is not K.OBJECTS or each.name not in runs or not each.size_bytes:
            continue
        unfinished = runs[each.name].unfinished
        if not unfinished and _older(each, now, KEPT_LONG):
            yield Insight(
                InsightKind.OLD_RESULTS,
                each,
                f"{each.name} has ended, and nothing of it has changed for {_age(each, now)}",
                monthly(each),
                f"runctl resources cleanup {each.id} --include objects",
            )
            continue
        asked, best = runs[each.name].keep_last, runs[each.name].keep_best
        keep = asked or 1
        # Those that are kept by their name may be among the last ones, or not.
        spare = each.checkpoints - keep - len(best)
        if spare > 0:
            cost = monthly(each)
            named = "".join(f" --keep-best {shlex.quote(name)}" for name in best)
            why = f"it is to keep the last {keep}" if asked else "one is enough to go on from"
            yield Insight(
                InsightKind.OLD_RESULTS,
                each,
                f"{each.name} keeps {counted(each.checkpoints, 'checkpoint')}; {why}",
                None if cost is None else cost * spare / each.checkpoints,
                f"runctl checkpoint prune {each.name} --keep-last {keep}{named}",
            )


def _images(
    own: Sequence[Resource], facts: Facts, now: datetime, monthly: Monthly, measured: Measured
) -> Iterator[Insight]:
    del measured
    used = {run.image_digest for run in facts.runs if run.unfinished}
    for each in own:
        digest = each.id.rpartition("@")[2]
        if each.kind is K.IMAGE and not each.name and digest not in used and _older(each, now, KEPT_LONG):
            yield Insight(
                InsightKind.OLD_IMAGE,
                each,
                f"it has no tag, and is {_age(each, now)} old",
                monthly(each),
                f"runctl resources cleanup {each.id} --include images",
            )


def _older(resource: Resource, now: datetime, than: timedelta) -> bool:
    return resource.existed_at is not None and now - resource.existed_at >= than


def _age(resource: Resource, now: datetime) -> str:
    return "" if resource.existed_at is None else time_span(now - resource.existed_at)


def _sum(amounts: Iterator[Decimal | None]) -> Decimal:
    return sum((each for each in amounts if each is not None), Decimal(0))
