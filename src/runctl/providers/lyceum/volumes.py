"""Lyceum's block volumes: made with a machine, kept when it has ended, and had again by a new one."""

from __future__ import annotations

from runctl.core import tags as tag
from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.journal import Journal
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.volume_plans import VolumePlan, VolumeRequest
from runctl.providers.abilities.volumes import ProvidedVolumes
from runctl.providers.labels import tags_of
from runctl.providers.lyceum.api import BlockVolume
from runctl.providers.lyceum.catalogue import ANYWHERE
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.machines import PROVIDER

WITH_A_MACHINE = "Lyceum's block volumes are created with a machine"
_HOW = "runctl lyceum create --new-volume GB"


def volume_of(found: BlockVolume, *, is_ours: bool, owner: str) -> Volume:
    """The volume; Lyceum has no names and no prices for them. Pure."""
    vm = found.attached_vm_id
    return Volume(
        id=VolumeId(found.volume_id),
        name=None,
        state=VolumeState.IN_USE if vm else VolumeState.AVAILABLE,
        size_gib=found.size_gb or 0,
        type="block",
        iops=None,
        throughput=None,
        zone=found.location or ANYWHERE,
        encrypted=False,
        attached_to=InstanceId(vm) if vm else None,
        device=None,
        mount_point=found.mount_path,
        persistent=False,
        price_per_month=None,
        tags={tag.OWNED: tag.OWNED_VALUE, tag.OWNER: owner} if is_ours else {},
        instances=(InstanceId(vm),) if vm else (),
    )


class LyceumVolumes(ProvidedVolumes):
    """See `Volumes`. Ours are those that a machine of ours has, or was seen to have from this computer."""

    provider = PROVIDER
    group = "volumes"
    kind_name = "block volume"
    not_ours = (
        "was not made from this computer",
        "delete it in Lyceum's dashboard, or with the vendor's tool",
    )

    def __init__(self, context: LyceumContext) -> None:
        self._context = context

    def plan(self, request: VolumeRequest) -> VolumePlan:
        """Raises `Unsupported`."""
        del request
        raise Unsupported(WITH_A_MACHINE, hint=_HOW)

    def create(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """Raises `Unsupported`."""
        del plan, progress
        raise Unsupported(WITH_A_MACHINE, hint=_HOW)

    def list(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """In Lyceum's order: it does not tell how old they are."""
        context = self._context
        volumes = context.api.volumes()
        machines = {vm.vm_id for vm in context.api.vms() if tags_of(vm.display_name)} if volumes else set()
        attached = {each.volume_id for each in volumes if each.attached_vm_id in machines}
        for volume_id in attached - context.known_volumes():
            context.note_volume(volume_id, SILENT)
        ours = attached | context.known_volumes()
        found = [
            volume_of(each, is_ours=each.volume_id in ours, owner=context.owner if volumes else "")
            for each in volumes
        ]
        return tuple(each for each in found if everyone or tag.is_ours(each.tags))

    @property
    def journal(self) -> Journal:
        """Of this caller."""
        return self._context.journal

    def delete_now(self, volume_id: VolumeId) -> None:
        """By Lyceum's call."""
        self._context.api.delete_volume(volume_id)

    def forget(self, volume_id: VolumeId) -> None:
        """From now on it is nobody's."""
        self._context.forget_volume(volume_id)
