"""EBS volumes that become larger, faster or of another type while they are used.

Rules: "ModifyVolume" in the EC2 API reference. One change at a time; up to four in any 24 hours; the size counts as
soon as the state is ``optimizing``, performance when it is ``completed``; nothing shrinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339, rfc3339
from runctl.core.errors import Conflict, ProviderError, Unreachable, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.abilities.volume_plans import (
    DiskShape,
    Modification,
    ResizePlan,
    ResizeRequest,
    changes_between,
)
from runctl.providers.abilities.volumes import Resizing
from runctl.providers.aws.calls.errors import error_code, raising_our_errors
from runctl.providers.aws.calls.parse import tag_list, utc
from runctl.providers.aws.calls.retries import carried_out
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.ebs.types import checked_shape
from runctl.providers.aws.ebs.volume_lookup import check_ours, find_volume
from runctl.providers.aws.prices.price_list import Group
from runctl.providers.aws.prices.region_rates import RegionRates

MOST_PER_DAY = 4
DAY = timedelta(hours=24)
MODIFY_TIMEOUT = timedelta(minutes=15)
"""For ``modifying``, which usually takes seconds; ``optimizing`` may take a day and is not waited for."""
DEFAULT_IOPS = 3000


def latest_modification(context: AwsContext, volume_id: VolumeId) -> Modification | None:
    """See `Resizing.latest`."""
    try:
        answer = context.session.ec2.describe_volumes_modifications(VolumeIds=[volume_id])
    except Exception as error:
        if error_code(error) == "InvalidVolumeModification.NotFound":
            return None
        raise
    found: list[Any] = answer["VolumesModifications"]
    return modification_of(max(found, key=lambda item: utc(item.get("StartTime")))) if found else None


def modification_of(described: Any) -> Modification:
    """An item of ``DescribeVolumesModifications``."""
    return Modification(
        state=described["ModificationState"],
        progress=described.get("Progress"),
        target_size_gib=described.get("TargetSize"),
        target_type=described.get("TargetVolumeType"),
        target_iops=described.get("TargetIops"),
        target_throughput=described.get("TargetThroughput"),
        started_at=utc(described.get("StartTime")),
        message=described.get("StatusMessage") or "",
    )


@raising_our_errors
class EbsResizing(Resizing):
    """Elastic Volumes; see `Resizing`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def latest(self, volume_id: VolumeId) -> Modification | None:
        """From DescribeVolumesModifications."""
        return latest_modification(self._context, volume_id)

    def plan(self, id_or_name: str, request: ResizeRequest) -> ResizePlan:
        """See `decide_resize`."""
        volume = find_volume(self._context, id_or_name)
        check_ours(volume)
        latest = latest_modification(self._context, volume.id)
        rates = self._context.prices.current_rates(Group.EBS)
        return decide_resize(volume, request, latest, self._context.clock.now(), rates)

    def resize(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        """ModifyVolume, waited for until it is ``optimizing``."""
        volume = plan.volume
        if plan.changes and not _is_under_way(latest_modification(self._context, volume.id), plan):
            progress.step(f"changing {volume.name or volume.id}: {', '.join(plan.changes)}")
            _modify(self._context, plan)
            _remember(self._context, volume, self._context.clock.now())
        for _ in attempts(self._context.clock, MODIFY_TIMEOUT):
            latest = latest_modification(self._context, volume.id)
            if latest is None or latest.state in {"optimizing", "completed"}:
                now = find_volume(self._context, volume.id)
                if now.size_gib >= plan.size_gib:
                    return now
            if latest is not None and latest.state == "failed":
                raise ProviderError(
                    f"EC2 could not change {volume.id}: {latest.message or 'it does not say why'}",
                    hint="the volume is as it was; try again, or ask for less",
                )
            progress.update(f"{volume.id} is {latest.state if latest else 'being looked at'}")
        raise Unreachable(
            f"volume {volume.id} is still being modified after {time_span(MODIFY_TIMEOUT)}",
            hint="AWS continues by itself; run the same command again later to continue",
        )


def decide_resize(
    volume: Volume, request: ResizeRequest, latest: Modification | None, now: datetime, rates: RegionRates
) -> ResizePlan:
    """What of the request is left to do. Pure; raises as `Resizing.plan` does."""
    under_way = latest if latest is not None and latest.is_under_way else None
    becoming = _becoming(volume, under_way)
    wanted = target_shape(becoming, request)
    if wanted.size_gib < becoming.size_gib:
        raise UsageError(
            f"volume {volume.name or volume.id} has {becoming.size_gib:,} GiB, and volumes do not shrink",
            hint=f"create one of {wanted.size_gib} GiB, copy the data there, and delete this one",
        )
    before = DiskShape(volume.type, volume.size_gib, volume.iops, volume.throughput)
    recent = [moment for moment in modified_at(volume) if now - moment < DAY]
    changes: tuple[str, ...] = ()
    if wanted != becoming:
        changes = changes_between(volume, wanted.size_gib, wanted.type, wanted.iops, wanted.throughput)
        _check_may_begin(volume, under_way, recent)
    return ResizePlan(
        volume=volume,
        size_gib=wanted.size_gib,
        type=wanted.type,
        iops=wanted.iops,
        throughput=wanted.throughput,
        changes=changes,
        pending=under_way,
        price_before=rates.volume(before),
        price_after=rates.volume(wanted),
        modifications_today=len(recent),
        warnings=tuple(_warnings(volume, wanted, changes, len(recent))),
    )


def target_shape(now: DiskShape, request: ResizeRequest) -> DiskShape:
    """The shape that is asked for, where the rest stays as it is. Raises `UsageError` outside the limits."""
    kind = request.type or now.type
    same = kind == now.type
    disk = TYPES.get(kind)
    iops, throughput = request.iops, request.throughput
    if disk is not None and disk.iops is not None and iops is None:
        # What was chosen stays chosen; a baseline that came with the size was nobody's choice.
        iops = now.iops if same else (DEFAULT_IOPS if disk.iops_needed else None)
    if disk is not None and disk.throughput is not None and throughput is None and same:
        throughput = now.throughput
    return checked_shape(kind, request.size_gib or now.size_gib, iops, throughput)


def modified_at(volume: Volume) -> list[datetime]:
    """When runctl modified it last, as its tag says."""
    found = []
    for moment in volume.tags.get(tag.MODIFICATIONS, "").split():
        try:
            found.append(parse_rfc3339(moment))
        except ValueError:
            continue
    return sorted(found)


def _becoming(volume: Volume, under_way: Modification | None) -> DiskShape:
    """What the volume will be when nothing is under way any more."""
    if under_way is None:
        return DiskShape(volume.type, volume.size_gib, *_chosen(volume.type, volume.iops, volume.throughput))
    kind = under_way.target_type or volume.type
    return DiskShape(
        kind,
        under_way.target_size_gib or volume.size_gib,
        *_chosen(
            kind, under_way.target_iops or volume.iops, under_way.target_throughput or volume.throughput
        ),
    )


def _chosen(kind: str, iops: int | None, throughput: int | None) -> tuple[int | None, int | None]:
    """Only what can be chosen for the type, so that two shapes compare."""
    disk = TYPES.get(kind)
    if disk is None:
        return iops, throughput
    return (iops if disk.iops is not None else None), (throughput if disk.throughput is not None else None)


def _check_may_begin(volume: Volume, under_way: Modification | None, recent: Sequence[datetime]) -> None:
    name = volume.name or volume.id
    if under_way is not None:
        far = "" if under_way.progress is None else f", {under_way.progress} % done"
        raise Conflict(
            f"volume {name} is being changed already ({under_way.state}{far}), and EC2 makes one change at a time",
            hint="a large volume can take hours; the volume can be used meanwhile. Try again when"
            f" `runctl aws ebs show {name}` says completed",
            code="modifying",
        )
    if len(recent) >= MOST_PER_DAY:
        next_possible = recent[-MOST_PER_DAY] + DAY
        raise Conflict(
            f"volume {name} was changed {len(recent)} times in the last 24 hours, and EC2 allows {MOST_PER_DAY}",
            hint=f"the next change is possible from {rfc3339(next_possible)} on",
            code="modification-limit",
        )


def _warnings(volume: Volume, wanted: DiskShape, changes: Sequence[str], recent: int) -> Iterable[str]:
    if not changes:
        return
    yield (
        "it cannot be undone: volumes do not shrink"
        if wanted.size_gib > volume.size_gib
        else ("size stays; type and performance can be changed back")
    )
    left = MOST_PER_DAY - recent - 1
    yield (
        f"EC2 allows {MOST_PER_DAY} changes in 24 hours, and the next only when this one is completed; after this"
        f" {left} {'is' if left == 1 else 'are'} left today"
    )
    if (wanted.type, wanted.iops, wanted.throughput) != (volume.type, volume.iops, volume.throughput):
        yield (
            "the new performance is reached when the modification completes, which can take hours;"
            " until then it is at least the old one"
        )


def _is_under_way(latest: Modification | None, plan: ResizePlan) -> bool:
    """Whether it is this very change that somebody (we, before we were killed) has begun."""
    return (
        latest is not None
        and latest.is_under_way
        and (latest.target_size_gib or plan.volume.size_gib) == plan.size_gib
        and (latest.target_type or plan.volume.type) == plan.type
    )


def _modify(context: AwsContext, plan: ResizePlan) -> None:
    volume = plan.volume
    arguments: dict[str, Any] = {"VolumeId": volume.id}
    if plan.size_gib != volume.size_gib:
        arguments["Size"] = plan.size_gib
    if plan.type != volume.type:
        arguments["VolumeType"] = plan.type
    if plan.iops is not None and (plan.iops != volume.iops or plan.type != volume.type):
        arguments["Iops"] = plan.iops
    if plan.throughput is not None and (plan.throughput != volume.throughput or plan.type != volume.type):
        arguments["Throughput"] = plan.throughput

    def modify() -> bool:
        context.session.ec2.modify_volume(**arguments)
        return True

    def has_begun() -> bool | None:
        now = find_volume(context, volume.id)
        is_so = (now.size_gib, now.type) == (plan.size_gib, plan.type) and all(
            wanted is None or wanted == has
            for wanted, has in ((plan.iops, now.iops), (plan.throughput, now.throughput))
        )
        return is_so or _is_under_way(latest_modification(context, volume.id), plan) or None

    try:
        carried_out(modify, has_begun, context.clock)
    except Exception as error:
        code = error_code(error)
        if code == "VolumeModificationRateExceeded":
            raise Conflict(
                f"EC2 allows {MOST_PER_DAY} changes of a volume in 24 hours: {error}",
                hint="wait until the time it names; changes by other tools count too",
                code="modification-limit",
            ) from error
        if code == "IncorrectModificationState":
            raise Conflict(
                f"volume {volume.id} is being changed already: {error}",
                hint=f"try again when `runctl aws ebs show {volume.name or volume.id}` says completed",
                code="modifying",
            ) from error
        raise


def _remember(context: AwsContext, volume: Volume, now: datetime) -> None:
    """So that the next plan knows how many changes are left; EC2 tells of the latest only."""
    times = [*modified_at(volume), now][-MOST_PER_DAY:]
    tags: Any = tag_list({tag.MODIFICATIONS: " ".join(map(rfc3339, times))})
    context.session.ec2.create_tags(Resources=[volume.id], Tags=tags)
