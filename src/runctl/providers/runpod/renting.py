"""Pods that are created and ended. RunPod has no client tokens and no tags: a pod's name and a variable carry both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runctl.agent.object_store import KEY_OPTIONS
from runctl.core import tags as tag
from runctl.core.errors import (
    Conflict,
    NotFound,
    PermissionDenied,
    Unreachable,
    Unsupported,
    UsageError,
    ZoneMismatch,
)
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Market, Volume
from runctl.core.mount_points import is_system_folder, usual_mount_points
from runctl.core.names import did_you_mean
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.costs.rates import Rate
from runctl.providers.capacity import Offer, RefusalListener, no_listener
from runctl.providers.ending_calls import end_once
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.providers.interface import Renting
from runctl.providers.labels import label_of, left_out
from runctl.providers.rental_tags import terms_by_label
from runctl.providers.runpod.api import NAME, GpuType, Pod
from runctl.providers.runpod.catalogue import ANYWHERE, CLOUDS, ON_DEMAND_ONLY, choose, parse_kind
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.images import RunPodImages
from runctl.providers.runpod.machines import (
    LABEL,
    LOGIN_USER,
    PROVIDER,
    instance_of,
    pod_name,
    pod_tags,
    state_of,
)
from runctl.providers.runpod.money import funds_of, funds_warnings
from runctl.providers.runpod.volumes import RunPodVolumes, price_of
from runctl.providers.without_tokens import Calls, Creations

FOUND_WITHIN = timedelta(minutes=2)
"""A pod whose creation was not answered is in the list by then: lists lag by seconds."""
_HOURS_A_DAY = 24
_VENDORS = "runpod/"
"""Images of RunPod's own start sshd by themselves."""
_START = """\
set -e
command -v sshd >/dev/null || { apt-get -q update && apt-get -q -y install --no-install-recommends openssh-server; } \\
    || apk add --no-cache openssh || dnf -q -y install openssh-server
mkdir -p /run/sshd "$HOME/.ssh"
chmod 700 "$HOME/.ssh"
printf '%s\\n' "$PUBLIC_KEY" >>"$HOME/.ssh/authorized_keys"
chmod 600 "$HOME/.ssh/authorized_keys"
env | grep -E '^[A-Za-z_][A-Za-z0-9_]*=' | grep -vE '^(RUNPOD_API_KEY|PUBLIC_KEY|HOME|PWD|OLDPWD|SHLVL|TERM|_)=' \\
    >"$HOME/.ssh/environment" || true
mkdir -p /etc/profile.d
export -p | grep -E '^export [A-Za-z_][A-Za-z0-9_]*=' \\
    | grep -vE '^export (RUNPOD_API_KEY|PUBLIC_KEY|HOME|PWD|OLDPWD|SHLVL|TERM|_)=' \\
    >/etc/profile.d/runctl-image.sh || true
ssh-keygen -A
"$(command -v sshd)" -o PermitUserEnvironment=yes
for each in /var/lib/cloud/scripts/per-boot/*; do [ ! -x "$each" ] || "$each"; done
exec sleep infinity
"""
"""The main process of other images. It does not end: RunPod starts a container again whose main process has ended. What
comes in by SSH, and every login shell, has the image's variables too, but not the pod's key."""


class RunPodRenting(Renting):
    """See `Renting`."""

    choosing = True

    def __init__(self, context: RunPodContext, volumes: RunPodVolumes, images: RunPodImages) -> None:
        self._context = context
        self._volumes = volumes
        self._images = images
        self._creations: Creations[Pod] = Creations(
            PROVIDER,
            NAME,
            "pod",
            FOUND_WITHIN,
            self._of_token,
            lambda pod: pod.id,
            Calls(context.state_directory / "creations"),
            context.clock,
            context.journal,
        )

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Which pods will do, and their prices."""
        del progress
        _refuse(request)
        context = self._context
        settings = context.settings
        now = context.clock.now()
        cloud = str(request.options.get("cloud") or settings.cloud)
        if cloud not in CLOUDS:
            raise UsageError(f"RunPod has no cloud {cloud!r}", hint=f"--cloud {' or '.join(CLOUDS)}")
        mounts, volume = self._volume(request, cloud)
        request = replace(request, zone=volume.zone if volume is not None else request.zone)
        gpus = context.api.gpus()
        if request.zone is not None and volume is None:
            self._check_data_centre(request.zone, gpus)
        choice = choose(request, gpus, cloud, now, settings.instance_type)
        first = choice.offers[0]
        terms = terms_by_label(
            request,
            owner=context.owner,
            per_hour=first.price.usd if first.price is not None else None,
            now=now,
        )
        configured = "the default" if request.image is None else "as you asked"
        return CreatePlan(
            provider=PROVIDER,
            instance_type=first.pool.instance_type,
            market=Market.ON_DEMAND,
            region=cloud,
            zone=request.zone,
            zone_reason=_zone_reason(request, volume),
            image=request.image or settings.image,
            image_reason=configured,
            login_user=LOGIN_USER,
            price=first.price,
            on_demand_price=first.price,
            volumes=mounts,
            volume_prices=_prices(volume, now),
            data_volume_size_gib=None,
            data_mount_point=request.data_mount_point,
            root_volume_size_gib=request.root_volume_size_gib or settings.disk,
            key_name=None,
            security_groups=(),
            instance_profile=None,
            subnet=None,
            project=request.project,
            owner=context.owner,
            name=request.name,
            ttl=terms.limits.ttl,
            tags=terms.tags,
            client_token=terms.token,
            warnings=(
                *_warnings(request, first, mounts, volume),
                *(funds_warnings(funds_of(context), first.price.usd) if first.price is not None else ()),
            ),
            offers=choice.offers,
            left_out=choice.left_out,
            max_price=request.max_price,
            fallback=request.fallback,
            unused_for=request.unused_for,
            budget=terms.limits.budget,
            budget_time=terms.limits.budget_time,
            idle_timeout=terms.limits.idle_timeout,
        )

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        """The pod of the first offer that has one. The same plan again finds it by its name."""
        known = self._of_token(plan.client_token)
        if known is not None:
            return instance_of(known)
        if any(
            each.tags.get(tag.INTENT) == plan.client_token for each in self._context.remembered().values()
        ):
            raise Conflict(
                "the pod that this command had made has ended", hint="try again", code="token-spent"
            )
        gpus = self._context.api.gpus()
        return instance_of(
            self._creations.first_that_can_be_had(
                plan, lambda offer: self._context.api.create(self._body(plan, offer, gpus)), refused, progress
            )
        )

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is gone, with its own disk; network volumes stay."""
        try:
            pod = self._context.api.pod(instance_id)
        except NotFound:
            return self._context.instance(instance_id)
        if not pod_tags(pod):
            raise PermissionDenied(
                f"pod {instance_id} was not created by runctl",
                hint="end it in RunPod's console",
                code="not-ours",
            )
        # Before the call: RunPod does not show a pod any more that has ended.
        instance = self._context.remember_ended(pod, progress)
        entry = self._context.journal.begin(
            Change(
                "instance",
                (instance_id,),
                Effect.GONE,
                f"instance {instance_id} has ended",
                check=f"runctl runpod status {instance_id}",
            )
        )

        def goes_on() -> None:
            self._context.forget_ended(instance_id)
            entry.refused()

        end_once(
            lambda: self._context.api.delete(instance_id),
            lambda: state_of(self._context.api.pod(instance_id)) is InstanceState.TERMINATED,
            goes_on,
        )
        self._wait_until_gone(instance_id, timedelta(minutes=1))
        entry.done()
        return instance

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """RunPod does not know it any more."""
        progress.step(f"waiting until {instance_id} has ended")
        self._wait_until_gone(instance_id, timeout)
        return self._context.instance(instance_id)

    def _wait_until_gone(self, instance_id: InstanceId, timeout: timedelta) -> None:
        for _ in attempts(self._context.clock, timeout):
            try:
                pod = self._context.api.pod(instance_id)
            except NotFound:
                return
            if state_of(pod) is InstanceState.TERMINATED:
                return
        raise Unreachable(
            f"{instance_id} has not ended after {time_span(timeout)}",
            hint=f"runctl runpod terminate {instance_id}",
        )

    def _body(self, plan: CreatePlan, offer: Offer, gpus: tuple[GpuType, ...]) -> dict[str, Any]:
        kind = parse_kind(offer.pool.instance_type, gpus)
        body: dict[str, Any] = {
            "name": pod_name(plan.client_token),
            "image": plan.image,
            # Without a count, and without a disk, RunPod refuses in words that say something else.
            "gpu": {"id": kind.gpu.id, "count": kind.count},
            "cloud": plan.region.upper(),
            "disk": plan.root_volume_size_gib,
            "ports": ["22/tcp"],
            "env": {"PUBLIC_KEY": self._context.access.public_key, LABEL: label_of(plan.tags)},
        }
        if plan.zone is not None:
            body["dataCenterIds"] = [plan.zone]
        login = self._images.login_for(plan.image)
        if login is not None:
            body["registry"] = login
        if plan.volumes:
            network = [{"volumeId": each.volume, "path": each.mount_point} for each in plan.volumes]
            body["mounts"] = {"network": network}
        if not plan.image.startswith(_VENDORS):
            body["args"] = json.dumps({"entrypoint": ["/bin/sh", "-c"], "cmd": [_START]})
        return body

    def _volume(self, request: InstanceRequest, cloud: str) -> tuple[tuple[VolumeMount, ...], Volume | None]:
        """The network volume of the request, and where the pod has it. Raises as `Renting.plan`."""
        if not request.volumes:
            return (), None
        wanted, *others = request.volumes
        if others:
            raise Unsupported("a pod has at most one network volume", hint="name one of them")
        volume = self._volumes.find(wanted.volume)
        if cloud != CLOUDS[0]:
            raise UsageError("only pods of the secure cloud have network volumes", hint="--cloud secure")
        if request.zone not in {None, volume.zone}:
            raise ZoneMismatch(
                volume.name or volume.id,
                volume.zone,
                str(request.zone),
                hint=f"--zone {volume.zone}, or leave it out: the volume decides it",
            )
        path = wanted.mount_point or usual_mount_points(volume)[0].path
        if is_system_folder(path):
            raise UsageError(
                f"{path} is the system's own: nothing can be mounted there", hint="such as /data"
            )
        return (VolumeMount(volume.id, path),), volume

    def _check_data_centre(self, zone: str, gpus: Sequence[GpuType]) -> None:
        """Raises `NotFound` for one that there is not: RunPod would say that it has no pods there."""
        if any(each.data_centre == zone for gpu in gpus for each in gpu.dataCenters):
            return
        known = sorted(each.id for each in self._context.api.data_centres())
        if zone not in known:
            raise NotFound(
                f"RunPod has no data centre {zone}",
                hint=did_you_mean(zone, known) or f"it has {', '.join(known)}",
                code="zone-not-found",
            )

    def _of_token(self, token: str) -> Pod | None:
        found = [pod for pod in self._context.api.pods() if pod.name == pod_name(token) and pod_tags(pod)]
        return found[0] if found else None


def _refuse(request: InstanceRequest) -> None:
    """What pods cannot have. Raises `Unsupported`."""
    if request.market is Market.SPOT:
        raise Unsupported(ON_DEMAND_ONLY, hint="leave --spot out")
    for wanted, reason in (
        (request.data_volume_size_gib, "pods have no fresh data disk: --root-volume-size is their own disk"),
        (
            request.writes,
            (f"pods have no rights of their own in an object store: the run needs keys ({KEY_OPTIONS})"),
        ),
        (request.helper_for, "RunPod's volumes cannot be filled by a helper machine"),
    ):
        if wanted:
            raise Unsupported(reason)


def _zone_reason(request: InstanceRequest, volume: Volume | None) -> str:
    if volume is not None:
        return f"{volume.name or volume.id} is there"
    return "as you asked" if request.zone else "RunPod chooses the data centre"


def _prices(volume: Volume | None, now: datetime) -> dict[str, Rate]:
    price = price_of(volume.type, volume.size_gib, now) if volume is not None else None
    return {volume.id: price} if volume is not None and price is not None else {}


def _warnings(
    request: InstanceRequest, offer: Offer, mounts: Sequence[VolumeMount], volume: Volume | None
) -> tuple[str, ...]:
    found = []
    if offer.last:
        where = f" in {offer.pool.zone}" if offer.pool.zone != ANYWHERE else ""
        found.append(f"RunPod had no {offer.pool.instance_type} in stock{where} a moment ago")
    if offer.price is not None:
        found.append(
            f"RunPod ends no pod by itself: forgotten, this one costs ${offer.price.usd * _HOURS_A_DAY:.2f} a day;"
            " what ends it in the pod asks RunPod by the pod's own key, which RunPod may refuse (runctl resources"
            " cleanup ends it from outside)"
        )
    found.append(what_stays(mounts, volume))
    if volume is not None and volume.instances:
        others = ", ".join(volume.instances)
        found.append(
            f"{others} {'have' if volume.instances[1:] else 'has'} {volume.name or volume.id} too: pods that write"
            " the same files spoil them"
        )
    lost = left_out(request.tags)
    if lost:
        found.append(f"RunPod keeps no tags: {', '.join(lost)} {'are' if lost[1:] else 'is'} not kept")
    return tuple(found)


def what_stays(mounts: Sequence[VolumeMount], volume: Volume | None) -> str:
    """What is left of a pod's data when it stops, restarts or ends. Pure."""
    lost = "what is on the pod's own disk is lost when it stops, restarts or ends"
    if volume is None or not mounts:
        return lost
    return f"{lost}; what is below {mounts[0].mount_point} is on {volume.name or volume.id}, and stays"
