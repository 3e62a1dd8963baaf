"""The inventory of a provider that lists machines and volumes and nothing else: what it rents is found all the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from runctl.core import tags as tag
from runctl.core.errors import NotFound, PermissionDenied, Unsupported
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.inventory import Inventory, Listing, Resource, ResourceKind
from runctl.providers.interface import Provider, require


class MachineInventory(Inventory):
    """Made of `Provider.instances` and `Provider.volumes`, `Renting.terminate` and `Volumes.delete`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def user(self) -> str | None:
        """Who creates machines here; where they name nobody, the account."""
        scope = self._provider.scope()
        return scope.user or scope.account or self._provider.name

    def list(
        self,
        *,
        regions: Sequence[str] | None = None,
        kinds: Collection[ResourceKind] | None = None,
        stores: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Listing:
        """The machines and volumes that are ours."""
        del stores
        provider = self._provider
        here = provider.region
        if regions is not None and here not in regions:
            return Listing(())
        found: list[Resource] = []
        if kinds is None or ResourceKind.INSTANCE in kinds:
            progress.step(f"listing the machines of {provider.name}")
            found += [self._resource(each) for each in provider.instances() if not each.state.is_over]
        if not isinstance(provider.volumes, Unsupported) and (kinds is None or ResourceKind.VOLUME in kinds):
            progress.step(f"listing the volumes of {provider.name}")
            found += [self._volume(each) for each in provider.volumes.list()]
        return Listing(tuple(found), (), (here,) if here is not None else ())

    def _resource(self, instance: Instance) -> Resource:
        return Resource(
            kind=ResourceKind.INSTANCE,
            id=instance.id,
            name=instance.tags.get(tag.NAME),
            provider=instance.provider,
            region=self._provider.region,
            zone=instance.zone,
            state=instance.state.value,
            created_at=instance.created_at,
            project=instance.project,
            owner=instance.owner or self.user(),
            size_bytes=None,
            type=instance.instance_type,
            market=instance.market.value,
            # The provider lists what is ours by whatever it has in place of tags.
            tags={**instance.tags, tag.OWNED: tag.OWNED_VALUE},
        )

    def _volume(self, volume: Volume) -> Resource:
        return Resource(
            kind=ResourceKind.VOLUME,
            id=volume.id,
            name=volume.name,
            provider=self._provider.name,
            region=self._provider.region,
            zone=volume.zone,
            state=volume.state.value,
            created_at=volume.created_at,
            project=volume.tags.get(tag.PROJECT),
            owner=volume.tags.get(tag.OWNER) or self.user(),
            size_bytes=volume.size_gib << 30,
            attached_to=volume.instances,
            type=volume.type,
            tags=volume.tags,
        )

    def remove(self, resource: Resource, progress: Progress = SILENT) -> None:
        """Renting.terminate or Volumes.delete, for what the provider still lists as ours."""
        if resource.kind is ResourceKind.VOLUME:
            require(self._provider.volumes).delete(VolumeId(resource.id), progress)
            return
        identifier = InstanceId(resource.id)
        ours = {each.id for each in self._provider.instances()}
        if identifier not in ours:
            if self.is_gone(resource):
                return
            raise PermissionDenied(
                f"{resource.id} is not runctl's any more, and is left alone", code="not-ours"
            )
        require(self._provider.renting).terminate(identifier, progress)

    def is_gone(self, resource: Resource) -> bool:
        """The provider says that it has ended, or does not know it."""
        try:
            if resource.kind is ResourceKind.VOLUME:
                return require(self._provider.volumes).find(resource.id).state is VolumeState.DELETED
            return self._provider.instance(InstanceId(resource.id)).state.is_over
        except NotFound:
            return True

    def stop(self, resource: Resource, progress: Progress = SILENT) -> None:
        """See `runctl.providers.interface.StopAndStart.stop`; what cannot be stopped raises `Unsupported`."""
        require(self._provider.stop_and_start).stop(InstanceId(resource.id), progress)

    def is_stopped(self, resource: Resource) -> bool:
        """As the provider says."""
        if self.is_gone(resource):
            return True
        return self._provider.instance(InstanceId(resource.id)).state.value == "stopped"
