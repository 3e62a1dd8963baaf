"""EBS snapshots: taken, found, listed, waited for and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, NotFound, PermissionDenied, ProviderError, Unreachable, UsageError
from runctl.core.ids import SnapshotId, VolumeId, new_client_token
from runctl.core.machine_models import Snapshot, SnapshotState
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.abilities.volume_plans import DiskShape, Initialization, SnapshotPlan, SnapshotRequest
from runctl.providers.abilities.volumes import Snapshots
from runctl.providers.aws.calls.errors import error_code, our_errors, raising_our_errors
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.calls.parse import snapshot_of, tag_list, tags_of, utc
from runctl.providers.aws.calls.retries import carried_out
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.initialization import RATES, initialization
from runctl.providers.aws.ebs.types import shape_from_text, shape_text
from runctl.providers.aws.ebs.volume_lookup import check_not_empty, find_volume
from runctl.providers.aws.prices.price_list import Group
from runctl.providers.names import check_resource_name

DESCRIPTION_LIMIT = 255
POLL_SECONDS = 15.0


def describe_snapshots(context: AwsContext, filters: Mapping[str, Iterable[str]]) -> list[Mapping[str, Any]]:
    """Every page of this account's ``DescribeSnapshots``."""
    return describe(context.session.ec2, "describe_snapshots", filters, OwnerIds=["self"])


def list_snapshots(
    context: AwsContext, *, everyone: bool, volume_id: VolumeId | None = None
) -> tuple[Snapshot, ...]:
    """See `Snapshots.list`."""
    filters = {} if everyone else {f"tag:{tag.OWNED}": [tag.OWNED_VALUE]}
    if volume_id is not None:
        filters["volume-id"] = [volume_id]
    items = describe_snapshots(context, filters)
    items.sort(key=lambda item: (utc(item.get("StartTime")), item["SnapshotId"]), reverse=True)
    rates = context.prices.rates
    return tuple(snapshot_of(item, rates) for item in items)


def find_snapshot(context: AwsContext, id_or_name: str) -> Snapshot:
    """By id or by Name tag. Raises `NotFound`, `Conflict` (several of the name)."""
    rates = context.prices.rates
    check_not_empty(id_or_name, "a snapshot")
    if id_or_name.startswith("snap-"):
        try:
            with our_errors(context.session.endpoint):
                found: list[Any] = context.session.ec2.describe_snapshots(SnapshotIds=[id_or_name])[
                    "Snapshots"
                ]
        except NotFound as error:
            raise _no_snapshot(id_or_name, context) from error
    else:
        found = describe_snapshots(context, {f"tag:{tag.NAME}": [id_or_name]})
    if len(found) > 1:
        raise Conflict(
            f"{len(found)} snapshots are named {id_or_name!r}: {', '.join(s['SnapshotId'] for s in found)}",
            hint="use the id of the one you mean",
            code="ambiguous-name",
        )
    if not found:
        raise _no_snapshot(id_or_name, context)
    return snapshot_of(found[0], rates)


@raising_our_errors
class EbsSnapshots(Snapshots):
    """EBS snapshots of one account and region; see `Snapshots`."""

    fastest_rate = max(RATES)

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def find(self, id_or_name: str) -> Snapshot:
        """By id or by Name tag."""
        return find_snapshot(self._context, id_or_name)

    def estimate_filling(self, rate: int | None, size_gib: int, zone: str) -> Initialization:
        """By EBS's provisioned initialisation rates."""
        return initialization(rate, None, size_gib, self._context.prices.in_region(zone[:-1]).rates)

    def original_shape(self, snapshot: Snapshot, size_gib: int) -> DiskShape | None:
        """As its tag says."""
        return shape_from_text(snapshot.tags.get(tag.SHAPE, ""), size_gib)

    def list(self, *, everyone: bool = False, volume_id: VolumeId | None = None) -> tuple[Snapshot, ...]:
        """Every page of DescribeSnapshots."""
        return list_snapshots(self._context, everyone=everyone, volume_id=volume_id)

    def plan(self, request: SnapshotRequest) -> SnapshotPlan:
        """Decided from the volume; its tags are handed down."""
        volume = find_volume(self._context, request.volume)
        if request.name is not None:
            check_name(self._context, request.name, request.token)
        if len(request.description) > DESCRIPTION_LIMIT:
            raise UsageError(f"a description has {DESCRIPTION_LIMIT} characters at most")
        persistent = volume.persistent if request.persistent is None else request.persistent
        token = request.token or new_client_token()
        tags = {
            **tag.inherited(volume.tags),
            **request.tags,
            tag.OWNED: tag.OWNED_VALUE,
            tag.OWNER: self._context.session.identity.name,
            tag.CREATED_AT: rfc3339(self._context.clock.now()),
            tag.SHAPE: shape_text(DiskShape(volume.type, volume.size_gib, volume.iops, volume.throughput)),
            tag.INTENT: token,
        }
        tags.pop(tag.PERSISTENT, None)
        if persistent:
            tags[tag.PERSISTENT] = "true"
        if volume.name:
            tags[tag.VOLUME] = volume.name
        if request.name:
            tags[tag.NAME] = request.name
        earlier = list_snapshots(self._context, everyone=True, volume_id=volume.id)
        newest = next((s for s in earlier if s.state is SnapshotState.COMPLETED), None)
        price = self._context.prices.current_rates(Group.EBS).snapshot(volume.size_gib)
        description = request.description or f"runctl: {volume.name or volume.id}"
        return SnapshotPlan(volume, request.name, description, persistent, tags, price, newest, token)

    def create(self, plan: SnapshotPlan, progress: Progress = SILENT) -> Snapshot:
        """CreateSnapshot, once for each plan."""

        # CreateSnapshot knows no client token: the tag is what finds one that was begun.
        def begun() -> Mapping[str, Any] | None:
            return next(
                iter(describe_snapshots(self._context, {f"tag:{tag.INTENT}": [plan.client_token]})), None
            )

        def create() -> Mapping[str, Any]:
            return self._context.session.ec2.create_snapshot(
                VolumeId=plan.volume.id, Description=plan.description, TagSpecifications=specification
            )

        before = begun()
        if before:
            return snapshot_of(before, self._context.prices.rates)
        progress.step(f"taking a snapshot of {plan.volume.name or plan.volume.id}")
        specification: Any = [{"ResourceType": "snapshot", "Tags": tag_list(plan.tags)}]
        taken = carried_out(create, begun, self._context.clock)
        return snapshot_of({"Tags": tag_list(plan.tags), **taken}, self._context.prices.rates)

    def wait(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, timeout: timedelta = timedelta(hours=24)
    ) -> Snapshot:
        """Asks until its state is ``completed``."""
        snapshot: Snapshot | None = None
        for _ in attempts(self._context.clock, timeout, most=POLL_SECONDS):
            try:
                snapshot = find_snapshot(self._context, snapshot_id)
            except NotFound:
                # One made a moment ago may not be seen yet.
                continue
            if snapshot.state is SnapshotState.COMPLETED:
                return snapshot
            if snapshot.state is SnapshotState.ERROR:
                raise ProviderError(
                    f"snapshot {snapshot_id} failed",
                    hint=f"often its KMS key cannot be used; runctl aws ebs snapshot-delete {snapshot_id} deletes it",
                )
            progress.update(
                f"copying what has changed to {snapshot_id}", done=snapshot.progress or 0, total=100
            )
        raise Unreachable(
            f"snapshot {snapshot_id} is {snapshot.state.value if snapshot else 'not visible'}"
            f" after {time_span(timeout)}",
            hint="AWS continues by itself: runctl aws ebs snapshots shows how far it is",
        )

    def delete(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """DeleteSnapshot, for what is ours."""
        try:
            snapshot = find_snapshot(self._context, snapshot_id)
        except NotFound:
            return
        if not tag.is_ours(snapshot.tags):
            raise PermissionDenied(
                f"snapshot {snapshot.id} was not taken by runctl, and stays",
                hint=f"if you are sure: aws ec2 delete-snapshot --snapshot-id {snapshot.id}",
                code="not-ours",
            )
        if snapshot.persistent and not include_protected:
            raise Conflict(
                f"snapshot {snapshot.name or snapshot.id} is marked persistent",
                hint=f"to delete it anyway: runctl aws ebs snapshot-delete {snapshot.id} --include-protected",
                code="protected",
            )
        progress.step(f"deleting {snapshot.name or snapshot.id}")
        try:
            self._context.session.ec2.delete_snapshot(SnapshotId=snapshot.id)
        except Exception as error:
            if error_code(error) == "InvalidSnapshot.NotFound":
                return
            if error_code(error) == "InvalidSnapshot.InUse":
                raise Conflict(
                    f"snapshot {snapshot.id} belongs to an image: {error}",
                    hint="deregister the image first: aws ec2 deregister-image",
                    code="in-use",
                ) from error
            raise


def check_name(context: AwsContext, name: str, token: str | None = None) -> None:
    """Raises `UsageError` for what cannot be a name, `Conflict` (code ``name-taken``) where a snapshot has it.

    The snapshot that this very ``token`` has made may have it.
    """
    check_resource_name(name, "a snapshot", "before-cleaning")
    for item in describe_snapshots(context, {f"tag:{tag.NAME}": [name]}):
        if tag.is_of_intent(tags_of(item.get("Tags")), token):
            continue
        mine = "" if tag.is_ours(tags_of(item.get("Tags"))) else ", which runctl did not take"
        raise Conflict(
            f"there is a snapshot named {name!r}: {item['SnapshotId']}{mine}",
            hint="use it, or choose another --name",
            code="name-taken",
        )


def _no_snapshot(id_or_name: str, context: AwsContext) -> NotFound:
    return NotFound(
        f"{context.session.region} has no snapshot {id_or_name!r}",
        hint="`runctl aws ebs snapshots` shows yours; --region searches another region",
    )
