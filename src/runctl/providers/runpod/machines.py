"""What RunPod says of a pod, as an `Instance`. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from runctl.core import tags as tag
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import AttachedVolume, Instance, InstanceState, Market
from runctl.providers.labels import tags_of
from runctl.providers.runpod.api import NetworkMount, Pod
from runctl.providers.runpod.catalogue import ANYWHERE, type_name
from runctl.providers.ssh_machines import Door

PROVIDER = "runpod"
LOGIN_USER = "root"
LABEL = "RUNCTL_LABEL"
"""The variable of a pod that says its tags; anybody with the account's key may read it."""
_STATES = {
    "PROVISIONING": InstanceState.PENDING,
    "STARTING": InstanceState.PENDING,
    "RUNNING": InstanceState.RUNNING,
    "EXITED": InstanceState.STOPPED,
    "ERROR": InstanceState.STOPPED,
    "TERMINATED": InstanceState.TERMINATED,
}
"""A word that is not here is taken for a pod that runs: one that nobody sees is billed all the same."""


def pod_name(token: str) -> str:
    """Names need not be unique at RunPod; this one is."""
    return f"runctl-{token}"


def pod_tags(pod: Pod) -> dict[str, str]:
    """What runctl wrote on it; empty for a pod that it did not create."""
    tags = tags_of((pod.env or {}).get(LABEL))
    return tags if tags and pod.name == pod_name(tags[tag.INTENT]) else {}


def network_mounts(pod: Pod) -> tuple[NetworkMount, ...]:
    """The network volumes that it has, each with its path; there is one at the most."""
    return (pod.mounts.network or ()) if pod.mounts is not None else ()


def door_of(pod: Pod) -> Door | None:
    """Where its SSH is now: after each start at another port."""
    direct = pod.ssh.direct if pod.ssh else None
    return Door(direct.host, direct.port) if direct is not None else None


def state_of(pod: Pod) -> InstanceState:
    """Running only where there is a way in too."""
    state = _STATES.get(pod.status, InstanceState.RUNNING)
    if state is InstanceState.RUNNING and door_of(pod) is None:
        return InstanceState.PENDING
    return state


def lost_its_gpus(pod: Pod) -> bool:
    """Whether it was started again and has none of the GPUs that it is billed by."""
    return (
        pod.status == "RUNNING"
        and pod.gpu is not None
        and pod.runtime is not None
        and pod.runtime.gpus is not None
        and len(pod.runtime.gpus) == 0
    )


def instance_of(pod: Pod) -> Instance:
    """The pod."""
    tags, door = pod_tags(pod), door_of(pod)
    state = state_of(pod)
    gpu = pod.gpu
    return Instance(
        id=InstanceId(pod.id),
        provider=PROVIDER,
        state=state,
        instance_type=type_name(gpu.id, gpu.count) if gpu is not None else "cpu",
        market=Market.ON_DEMAND,
        zone=pod.dataCenterId or ANYWHERE,
        public_ip=door.host if door is not None and state is InstanceState.RUNNING else None,
        private_ip=None,
        price_per_hour=Decimal(0) if state is InstanceState.STOPPED else pod.cost,
        project=tags.get(tag.PROJECT),
        owner=tags.get(tag.OWNER),
        created_at=time_of(pod.createdAt),
        volumes=tuple(AttachedVolume(VolumeId(each.volumeId), "", each.path) for each in network_mounts(pod)),
        tags={**tags, tag.LOGIN_USER: LOGIN_USER} if tags else {tag.NAME: pod.name},
        state_reason="RunPod says that it has an error" if pod.status == "ERROR" else None,
    )


def ended(instance: Instance) -> Instance:
    """The pod after its end: RunPod shows it no longer."""
    return replace(
        instance,
        volumes=(),
        state=InstanceState.TERMINATED,
        public_ip=None,
        price_per_hour=None,
        state_reason="ended by runctl",
    )


def time_of(text: str | None) -> datetime:
    """RunPod's times are UTC."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
