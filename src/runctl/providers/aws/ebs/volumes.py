"""EBS volumes of one account and region."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from runctl.core.errors import Conflict, NotFound
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.volume_plans import (
    DiskShape,
    InitializationStatus,
    Suggestion,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.abilities.volumes import Volumes
from runctl.providers.aws.calls.errors import our_errors, raising_our_errors
from runctl.providers.aws.calls.parse import instance_of, tag_list
from runctl.providers.aws.calls.retries import carried_out
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs import attachments, mounting, purposes, volume_creation
from runctl.providers.aws.ebs.clones import initialization
from runctl.providers.aws.ebs.types import chosen_shape
from runctl.providers.aws.ebs.volume_lookup import (
    check_ours,
    find_described,
    find_volume,
    in_use,
    list_volumes,
)
from runctl.providers.aws.ec2 import instances, releasing


@raising_our_errors
class EbsVolumes(Volumes):
    """See `Volumes`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def plan(self, request: VolumeRequest) -> VolumePlan:
        """Within the type's limits, in the zone where the configured machine is cheapest."""
        return volume_creation.plan_volume(self._context, request)

    def create(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """CreateVolume, once for each plan."""
        return volume_creation.create_volume(self._context, plan, progress)

    def find(self, id_or_name: str) -> Volume:
        """By id or by Name tag."""
        return find_volume(self._context, id_or_name)

    def list(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """Every page of DescribeVolumes."""
        return list_volumes(self._context, everyone=everyone)

    def attach(self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT) -> Volume:
        """AttachVolume, at a free device name."""
        described = instances.describe(self._context, instance_id)
        return attachments.attach_volume(self._context, volume_id, described, progress)

    def detach(
        self,
        volume_id: VolumeId,
        *,
        force: bool = False,
        progress: Progress = SILENT,
        instance_id: InstanceId | None = None,
    ) -> Volume:
        """DetachVolume, and its instance no longer expects it."""
        before = find_volume(self._context, volume_id)
        # Before it is detached: cut short in between, the next start would bring the volume back.
        mounting.forget_mounts(self._context, before, instance_id)
        return attachments.detach_volume(
            self._context, volume_id, force=force, progress=progress, instance_id=instance_id
        )

    def is_being_released(self, volume: Volume) -> bool:
        """By the states of the instances that have it."""
        return releasing.is_being_released(self._context, volume)

    def released(self, volume: Volume, progress: Progress = SILENT) -> Volume:
        """EC2 detaches it when its instance has shut down."""
        return releasing.released(self._context, volume, progress)

    def remember_mount(
        self, volume_id: VolumeId, instance_id: InstanceId, mount_point: str, *, read_only: bool
    ) -> None:
        """In the tags of both."""
        instance = instance_of(instances.describe(self._context, instance_id))
        volume = find_volume(self._context, volume_id)
        mounting.remember_mount(self._context, volume, instance, mount_point, read_only=read_only)

    def delete(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """DeleteVolume, for what is ours, once an instance that is shutting down has let go of it."""
        with contextlib.suppress(NotFound):
            releasing.released(self._context, find_volume(self._context, volume_id), progress)
        self._delete(volume_id, progress, include_protected=include_protected)

    def tag(self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        """CreateTags, then DeleteTags."""
        check_ours(find_volume(self._context, volume_id))
        if tags:
            added: Any = tag_list(tags)
            self._context.session.ec2.create_tags(Resources=[volume_id], Tags=added)
        if remove:
            self._context.session.ec2.delete_tags(
                Resources=[volume_id], Tags=[{"Key": key} for key in remove]
            )

    def chosen_shape(self, volume: Volume) -> DiskShape:
        """By its type's limits."""
        return chosen_shape(volume)

    def suggest(self, purpose: str, size_gib: int) -> Suggestion | None:
        """By what the types cost and do."""
        return purposes.suggest(purpose, size_gib, self._context.prices.rates)

    def initialization(self, volume_id: VolumeId) -> InitializationStatus:
        """From DescribeVolumeStatus."""
        return initialization(self._context, volume_id)

    def _delete(self, volume_id: VolumeId, progress: Progress, *, include_protected: bool) -> None:
        """DeleteVolume, for what is ours and free."""
        try:
            with our_errors(self._context.session.endpoint):
                volume = find_volume(self._context, volume_id)
        except NotFound:
            return
        if volume.state in {VolumeState.DELETING, VolumeState.DELETED}:
            return
        check_ours(volume)
        if volume.persistent and not include_protected:
            raise Conflict(
                f"volume {volume.name or volume.id} is marked persistent",
                hint=f"if its data may really go: runctl aws ebs delete {volume.id} --include-protected",
                code="protected",
            )
        if volume.attached_to is not None:
            raise in_use(volume)
        progress.step(f"deleting {volume.name or volume.id}")

        def delete() -> bool:
            self._context.session.ec2.delete_volume(VolumeId=volume.id)
            return True

        def is_gone() -> bool | None:
            try:
                with our_errors(self._context.session.endpoint):
                    found = find_described(self._context, volume.id)
            except NotFound:
                return True
            return found["State"] in {"deleting", "deleted"} or None

        carried_out(delete, is_gone, self._context.clock)
