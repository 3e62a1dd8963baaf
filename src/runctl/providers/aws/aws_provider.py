"""The AWS provider: each method hands over to the module that knows its subject."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta

from runctl.core.errors import NotFound, Unsupported
from runctl.core.ids import InstanceId, SnapshotId, VolumeId
from runctl.core.models import Instance, Snapshot, Volume
from runctl.core.progress import SILENT, Progress
from runctl.providers.aws import doctor, ecr
from runctl.providers.aws.calls.errors import translated
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs import (
    attachments,
    clones,
    modifications,
    mounting,
    snapshots,
    volume_creation,
    volumes,
)
from runctl.providers.aws.ebs.filling import AwsFilling
from runctl.providers.aws.ec2 import instances, launch, planning, readiness, releasing
from runctl.providers.aws.ec2.connect import Connections
from runctl.providers.image_registry import (
    ImageRepository,
    RegistryImage,
    RegistryLogin,
    RegistryProvider,
    RepositoryPlan,
)
from runctl.providers.interface import (
    Capability,
    Check,
    CreatePlan,
    InstanceRequest,
    Scope,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.volume_plans import (
    ClonePlan,
    CloneRequest,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
)
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport


class AwsProvider(AwsFilling, RegistryProvider):
    """EC2 instances, EBS volumes and ECR images of one account and region."""

    name = "aws"

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self.session = context.session
        self.journal = context.session.journal
        self._connections = Connections(context)

    @translated
    def scope(self) -> Scope:
        """The account and region, and the configuration's ``[aws]`` section."""
        session = self._context.session
        return Scope(session.identity.account, session.region, asdict(self._context.config.aws))

    def capabilities(self) -> Mapping[Capability, Unsupported | None]:
        """All of them."""
        return dict.fromkeys(Capability)

    def report_to(self, progress: Progress) -> None:
        """See `Provider.report_to`."""
        self.session.report_to(progress)

    @translated
    def plan_create(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Resolve every open question of the request without creating anything."""
        return planning.plan_create(self._context, request, progress)

    @translated
    def create(self, plan: CreatePlan, progress: Progress = SILENT) -> Instance:
        """The instance exists, tagged, with its volumes attached; it may still be booting."""
        return launch.create(self._context, plan, progress)

    @translated
    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """The machine can be used: running, reachable, user-data finished, its volumes attached and mounted."""
        return readiness.wait_ready(self._context, self._connections, instance_id, timeout, progress)

    @translated
    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now."""
        return instances.priced(self._context, instances.describe(self._context, instance_id))

    @translated
    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, newest first, every page."""
        return instances.list_instances(self._context, everyone=everyone, include_ended=include_ended)

    @translated
    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is shutting down or gone; its own disks go with it, volumes brought along stay."""
        instance = instances.terminate(self._context, instance_id, progress)
        self._connections.forget(instance_id)
        return instance

    @translated
    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """EC2 says that it is terminated, and shows its volumes as free."""
        return releasing.wait_ended(self._context, instance_id, timeout, progress)

    @translated
    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is stopped or stopping; its disks stay and are billed."""
        instance = instances.stop(self._context, instance_id, progress)
        self._connections.forget(instance_id)
        return instance

    @translated
    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """A stopped instance is starting; see `wait_ready`."""
        return instances.start(self._context, instance_id, progress)

    @translated
    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """A way to the machine: ``auto``, ``ssh`` or ``ssm``."""
        return self._connections.transport(instance, choice, progress)

    @translated
    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine."""
        return self._connections.agent(instance, choice, progress)

    @property
    def region(self) -> str | None:
        """The session's."""
        return self.session.region

    @translated
    def costs_money(self) -> bool:
        """Not in the sandbox."""
        return not self.session.in_sandbox

    def platform(self, instance_type: str) -> str | None:
        """By the type's name."""
        return ecr.platform_of(instance_type)

    def doctor(self) -> tuple[Check, ...]:
        """What works, what is missing, and the exact fix."""
        return doctor.doctor(self._context)

    @translated
    def plan_volume(self, request: VolumeRequest) -> VolumePlan:
        """Check size, IOPS and throughput against the type's limits and choose the zone."""
        default = self._context.config.aws.instance_type or planning.DEFAULT_INSTANCE_TYPE
        return volume_creation.plan_volume(self._context, request, default)

    @translated
    def create_volume(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """The volume exists, tagged, and is available."""
        return volume_creation.create_volume(self._context, plan, progress)

    @translated
    def volume(self, id_or_name: str) -> Volume:
        """One volume, ours or not."""
        return volumes.find_volume(self._context, id_or_name)

    @translated
    def volumes(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """All of them, newest first, every page."""
        return volumes.list_volumes(self._context, everyone=everyone)

    @translated
    def attach_volume(
        self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT
    ) -> Volume:
        """The volume is attached, at a free device name."""
        described = instances.describe(self._context, instance_id)
        return attachments.attach_volume(self._context, volume_id, described, progress)

    @translated
    def detach_volume(
        self,
        volume_id: VolumeId,
        *,
        force: bool = False,
        progress: Progress = SILENT,
        instance_id: InstanceId | None = None,
    ) -> Volume:
        """The volume is available again, and its instance no longer expects it."""
        before = volumes.find_volume(self._context, volume_id)
        # Before it is detached: cut short in between, the next start would bring the volume back.
        mounting.forget_mounts(self._context, before, instance_id)
        return attachments.detach_volume(
            self._context, volume_id, force=force, progress=progress, instance_id=instance_id
        )

    @translated
    def is_being_released(self, volume: Volume) -> bool:
        """By the states of the instances that have it."""
        return releasing.is_being_released(self._context, volume)

    @translated
    def released(self, volume: Volume, progress: Progress = SILENT) -> Volume:
        """EC2 detaches it when its instance has shut down."""
        return releasing.released(self._context, volume, progress)

    @translated
    def remember_mount(self, volume_id: VolumeId, instance_id: InstanceId, mount_point: str) -> None:
        """The instance and, if it is ours, the volume say from now on where the volume is mounted."""
        instance = instance_of(instances.describe(self._context, instance_id))
        mounting.remember_mount(
            self._context, volumes.find_volume(self._context, volume_id), instance, mount_point
        )

    @translated
    def delete_volume(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The volume is gone."""
        with contextlib.suppress(NotFound):
            releasing.released(self._context, volumes.find_volume(self._context, volume_id), progress)
        volumes.delete_volume(self._context, volume_id, progress, include_protected=include_protected)

    @translated
    def tag_volume(
        self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()
    ) -> None:
        """The volume has these tags, and not those."""
        volumes.tag_volume(self._context, volume_id, tags, remove)

    @translated
    def plan_resize(self, volume: str, request: ResizeRequest) -> ResizePlan:
        """Check the change against the limits and against what is under way."""
        return modifications.plan_resize(self._context, volume, request)

    @translated
    def resize_volume(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        """The volume has its new size."""
        return modifications.resize_volume(self._context, plan, progress)

    @translated
    def modification(self, volume_id: VolumeId) -> Modification | None:
        """The newest change of the volume."""
        return modifications.latest_modification(self._context, volume_id)

    @translated
    def plan_snapshot(self, request: SnapshotRequest) -> SnapshotPlan:
        """Resolve everything without creating anything."""
        return snapshots.plan_snapshot(self._context, request)

    @translated
    def create_snapshot(self, plan: SnapshotPlan, progress: Progress = SILENT) -> Snapshot:
        """The snapshot holds the volume's bytes of this moment; it may still be pending."""
        return snapshots.create_snapshot(self._context, plan, progress)

    @translated
    def wait_snapshot(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, timeout: timedelta = timedelta(hours=24)
    ) -> Snapshot:
        """The snapshot is complete."""
        return snapshots.wait_snapshot(self._context, snapshot_id, progress, timeout)

    @translated
    def snapshot(self, id_or_name: str) -> Snapshot:
        """One snapshot, ours or not."""
        return snapshots.find_snapshot(self._context, id_or_name)

    @translated
    def snapshots(self, *, everyone: bool = False, volume_id: VolumeId | None = None) -> tuple[Snapshot, ...]:
        """Those of this account, newest first, every page."""
        return snapshots.list_snapshots(self._context, everyone=everyone, volume_id=volume_id)

    @translated
    def delete_snapshot(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The snapshot is gone."""
        snapshots.delete_snapshot(self._context, snapshot_id, progress, include_protected=include_protected)

    @translated
    def plan_clone(self, request: CloneRequest) -> ClonePlan:
        """Resolve everything without creating anything."""
        return clones.plan_clone(self._context, request)

    @translated
    def clone_volume(self, plan: ClonePlan, progress: Progress = SILENT) -> Volume:
        """A copy of the volume is available in its zone."""
        return clones.clone_volume(self._context, plan, progress)

    @translated
    def initialization(self, volume_id: VolumeId) -> InitializationStatus:
        """How far a volume has the data that it was made from."""
        return clones.initialization(self._context, volume_id)

    @translated
    def plan_repository(self, name: str, *, keep_images: int) -> RepositoryPlan:
        """What is there, and what would be created."""
        return ecr.plan_repository(self._context, name, keep_images)

    @translated
    def ensure_repository(
        self, plan: RepositoryPlan, *, project: str | None, progress: Progress = SILENT
    ) -> None:
        """The repository exists, tagged, with its lifecycle rule."""
        ecr.ensure_repository(self._context, plan, project, progress)

    @translated
    def registry_login(self) -> RegistryLogin:
        """A new token."""
        return ecr.login(self._context)

    @translated
    def owns_registry(self, host: str) -> bool:
        """By the name of the host."""
        return ecr.owns_registry(self._context, host)

    @translated
    def repositories(self, *, everyone: bool = False) -> tuple[ImageRepository, ...]:
        """All of them by name, every page."""
        return ecr.repositories(self._context, everyone=everyone)

    @translated
    def images(self, repository: str) -> tuple[RegistryImage, ...]:
        """What is in a repository, newest first, every page."""
        return ecr.images(self._context, repository)

    @translated
    def delete_images(
        self, repository: str, digests: Sequence[str], progress: Progress = SILENT
    ) -> tuple[str, ...]:
        """These are gone."""
        return ecr.delete_images(self._context, repository, digests, progress)
