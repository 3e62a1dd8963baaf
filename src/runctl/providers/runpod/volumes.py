"""RunPod's network volumes: chosen when a pod is made, kept when it is gone, in one data centre for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, Unsupported, UsageError
from runctl.core.ids import InstanceId, VolumeId, new_client_token
from runctl.core.journal import Change, Effect, Journal
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.names import did_you_mean
from runctl.core.progress import SILENT, Progress
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities.volume_plans import (
    Modification,
    ResizePlan,
    ResizeRequest,
    VolumePlan,
    VolumeRequest,
    changes_between,
)
from runctl.providers.abilities.volumes import ProvidedVolumes, Resizing
from runctl.providers.labels import label_of, left_out, tags_of
from runctl.providers.runpod.api import NAME, DataCentre, NetworkVolume, Pod
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import PROVIDER, network_mounts
from runctl.providers.without_tokens import Calls, Creations

TYPES = ("standard", "high-performance")
LEAST_GB, MOST_GB = 10, 4096
FOUND_WITHIN = timedelta(minutes=2)
_FIRST_GB, _FIRST_USD, _NEXT_USD = 1000, Decimal("0.07"), Decimal("0.05")
_SOURCE = "RunPod's price list of 2026"


def price_of(kind: str, size_gb: int, now: datetime) -> Rate | None:
    """A month of a network volume, whether or not a pod has it; ``None``: RunPod does not publish it. Pure."""
    if kind != TYPES[0]:
        return None
    usd = min(size_gb, _FIRST_GB) * _FIRST_USD + max(size_gb - _FIRST_GB, 0) * _NEXT_USD
    return Rate(usd, Per.MONTH, now, _SOURCE)


def type_of(value: str) -> str:
    """RunPod's word as it is typed: ``high-performance``."""
    return value.lower().replace("_", "-")


def volume_of(found: NetworkVolume, pods: Sequence[Pod], now: datetime) -> Volume:
    """The volume, and the pods that have it. Pure."""
    tags = tags_of(found.name)
    users = tuple(
        (InstanceId(pod.id), mount.path)
        for pod in pods
        for mount in network_mounts(pod)
        if mount.volumeId == found.id
    )
    price = price_of(type_of(found.type), found.size, now)
    return Volume(
        id=VolumeId(found.id),
        name=tags.get(tag.NAME) if tags else found.name,
        state=VolumeState.IN_USE if users else VolumeState.AVAILABLE,
        size_gib=found.size,
        type=type_of(found.type),
        iops=None,
        throughput=None,
        zone=found.dataCenter,
        encrypted=False,
        attached_to=users[0][0] if users else None,
        device=None,
        mount_point=users[0][1] if users else None,
        persistent=False,
        price_per_month=price.usd if price is not None else None,
        tags=tags or {tag.NAME: found.name},
        instances=tuple(pod for pod, _ in users),
    )


def check_data_centre(zone: str | None, kind: str | None, centres: Sequence[DataCentre]) -> str:
    """The volume's type in that data centre. Raises `UsageError`, `NotFound`. Pure."""
    able = {each.id: tuple(map(type_of, each.networkVolumeTypes or ())) for each in centres}
    having = sorted(name for name, types in able.items() if types)
    if zone is None:
        raise UsageError(
            "a network volume stays in its data centre, and only pods of that data centre can have it: name one",
            hint=f"--zone {' or '.join(having[:3])}; all that have network volumes: {', '.join(having)}",
        )
    if not able.get(zone):
        raise NotFound(
            f"RunPod has no network volumes in a data centre {zone}",
            hint=did_you_mean(zone, having) or f"those that have them: {', '.join(having)}",
            code="zone-not-found",
        )
    chosen = kind or able[zone][0]
    if chosen not in able[zone]:
        raise UsageError(
            f"{zone} has no {chosen} network volumes", hint=f"--volume-type {' or '.join(able[zone])}"
        )
    return chosen


class RunPodVolumes(ProvidedVolumes):
    """See `Volumes`."""

    provider = PROVIDER
    group = "volumes"
    kind_name = "network volume"
    not_ours = ("was not created by runctl", "delete it in RunPod's console")

    def __init__(self, context: RunPodContext) -> None:
        self._context = context
        self._creations: Creations[NetworkVolume] = Creations(
            PROVIDER,
            NAME,
            "network volume",
            FOUND_WITHIN,
            self._of_token,
            lambda volume: volume.id,
            Calls(context.state_directory / "creations"),
            context.clock,
            context.journal,
            kind="volume",
        )

    def plan(self, request: VolumeRequest) -> VolumePlan:
        """A size that RunPod has, in a data centre that has network volumes."""
        _refuse(request)
        size = request.size_gib
        if size is None or not LEAST_GB <= size <= MOST_GB:
            raise UsageError(
                f"a network volume has {LEAST_GB} to {MOST_GB} GB, not {size or 'none'}",
                hint=f"--size {min(max(size or LEAST_GB, LEAST_GB), MOST_GB)}",
            )
        kind = check_data_centre(request.zone, request.type, self._context.api.data_centres())
        token = request.token or new_client_token()
        self._check_name(request.name, token)
        return VolumePlan(
            # RunPod says of none that it is.
            request=replace(request, type=kind, token=token, encrypted=False),
            zone_reason="as you asked; only pods of this data centre can have the volume",
            price=price_of(kind, size, self._context.clock.now()),
            client_token=token,
        )

    def create(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """The same plan twice finds it by its name."""
        request = plan.request
        tags = {tag.OWNED: tag.OWNED_VALUE, tag.OWNER: self._context.owner, tag.INTENT: plan.client_token}
        tags |= {
            key: value
            for key, value in ((tag.PROJECT, request.project), (tag.NAME, request.name))
            if value is not None
        }
        body: dict[str, Any] = {
            "name": label_of(tags),
            "size": plan.size_gib,
            "dataCenter": request.zone,
            "type": (request.type or TYPES[0]).upper().replace("-", "_"),
        }
        created = self._of_token(plan.client_token) or self._creations.once(
            plan.client_token, lambda: self._context.api.create_volume(body), progress
        )
        return volume_of(created, (), self._context.clock.now())

    def list(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """In RunPod's order: it does not tell how old they are."""
        volumes = self._context.api.volumes()
        pods, now = (self._context.api.pods() if volumes else ()), self._context.clock.now()
        found = (volume_of(each, pods, now) for each in volumes)
        return tuple(each for each in found if everyone or tag.is_ours(each.tags))

    @property
    def journal(self) -> Journal:
        """Of this caller."""
        return self._context.journal

    def delete_now(self, volume_id: VolumeId) -> None:
        """By RunPod's call."""
        self._context.api.delete_volume(volume_id)

    def _check_name(self, name: str | None, token: str) -> None:
        """Raises `Conflict` where another one of ours has it."""
        for volume in self.list():
            if name is not None and volume.name == name and volume.tags[tag.INTENT] != token:
                raise Conflict(
                    f"network volume {volume.id} in {volume.zone} is called {name} already",
                    hint=f"choose another name, or delete that one: runctl runpod volumes delete {volume.id}",
                    code="name-taken",
                )

    def _of_token(self, token: str) -> NetworkVolume | None:
        volumes = self._context.api.volumes()
        return next((each for each in volumes if tags_of(each.name).get(tag.INTENT) == token), None)


class RunPodResizing(Resizing):
    """Network volumes grow while they are used."""

    def __init__(self, context: RunPodContext, volumes: RunPodVolumes) -> None:
        self._context = context
        self._volumes = volumes

    def plan(self, volume: str, request: ResizeRequest) -> ResizePlan:
        """A larger size; nothing else of them can be changed."""
        found = self._volumes.find(volume)
        if request.type not in {None, found.type} or request.iops or request.throughput:
            raise UsageError("only the size of a network volume can be changed", hint="--size GB")
        size = request.size_gib or found.size_gib
        if not found.size_gib <= size <= MOST_GB:
            raise UsageError(
                f"network volume {found.name or found.id} has {found.size_gib} GB, and cannot have {size}",
                hint=f"they only grow, to {MOST_GB} GB at most",
            )
        now = self._context.clock.now()
        return ResizePlan(
            volume=found,
            size_gib=size,
            type=found.type,
            iops=None,
            throughput=None,
            changes=changes_between(found, size, found.type, None, None),
            pending=None,
            price_before=price_of(found.type, found.size_gib, now),
            price_after=price_of(found.type, size, now),
            modifications_today=0,
        )

    def resize(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        """By one call; what is on the volume sees the new size by itself."""
        if plan.changes:
            progress.step(f"enlarging {plan.volume.name or plan.volume.id}")
            change = Change(
                "volume",
                (plan.volume.id,),
                Effect.CHANGED,
                f"network volume {plan.volume.id} has {plan.size_gib} GB",
                check=f"runctl runpod volumes show {plan.volume.id}",
            )
            with self._context.journal.calling(change):
                self._context.api.grow_volume(plan.volume.id, plan.size_gib)
        return self._volumes.find(plan.volume.id)

    def latest(self, volume_id: VolumeId) -> Modification | None:
        """A change is over when it is answered."""
        del volume_id
        return None


def _refuse(request: VolumeRequest) -> None:
    """What network volumes cannot have. Raises `Unsupported`."""
    lost = left_out(request.tags)
    for wanted, reason in (
        (request.iops or request.throughput, "the speed of a network volume cannot be chosen"),
        (request.snapshot_id, "RunPod's network volumes have no snapshots to begin with"),
        (request.persistent, "RunPod keeps no tags: a network volume cannot be marked persistent"),
        (lost, f"RunPod keeps no tags: {', '.join(lost)} would be lost"),
    ):
        if wanted:
            raise Unsupported(reason)
