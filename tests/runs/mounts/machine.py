"""A machine with volumes, and the plan of a run on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runctl.agent.spec import MachineMount
from runctl.containers.mounts import VOLUME_FLAG, MountRequest, parse_mount
from runctl.core import tags as tag
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market, Volume, VolumeState
from runctl.runs.mounts.plan import MountFacts, MountPlan, plan_mounts

DATASETS, CACHE, FREE = "vol-0123456789abcdef0", "vol-0fedcba9876543210", "vol-0aaaaaaaaaaaaaaaa"


GIB = 1 << 30


OTHER = InstanceId("i-0fedcba9876543210")


OURS = {tag.OWNED: tag.OWNED_VALUE}


def an_instance(identifier: str = "i-0123456789abcdef0", **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "id": InstanceId(identifier),
        "provider": "aws",
        "state": InstanceState.RUNNING,
        "instance_type": "t3.medium",
        "market": Market.SPOT,
        "zone": "us-east-1a",
        "public_ip": None,
        "private_ip": None,
        "price_per_hour": None,
        "project": None,
        "owner": None,
        "created_at": datetime(2026, 5, 1, tzinfo=UTC),
        "tags": OURS,
    }
    return Instance(**{**values, **changes})


INSTANCE = an_instance()


def a_volume(identifier: str, name: str | None = None, **changes: Any) -> Volume:
    values: dict[str, Any] = {
        "id": VolumeId(identifier),
        "name": name,
        "state": VolumeState.IN_USE,
        "size_gib": 100,
        "type": "gp3",
        "iops": None,
        "throughput": None,
        "zone": "us-east-1a",
        "encrypted": True,
        "attached_to": INSTANCE.id,
        "device": None,
        "mount_point": None,
        "persistent": False,
        "price_per_month": None,
        "tags": OURS,
    }
    return Volume(**{**values, **changes})


def mounted(point: str, volume: str | None, **changes: Any) -> MachineMount:
    values: dict[str, Any] = {"fstype": "ext4", "size_bytes": 100 * GIB, "free_bytes": 50 * GIB}
    return MachineMount(point, f"/dev/{point.replace('/', '')}", volume, **{**values, **changes})


ROOT = mounted("/", None)


DATA_MOUNT = mounted("/mnt/data", DATASETS)


CACHE_MOUNT = mounted("/mnt/cache", CACHE)


VOLUMES = [
    a_volume(DATASETS, "datasets"),
    a_volume(CACHE, "cache"),
    a_volume(FREE, "free", attached_to=None, state=VolumeState.AVAILABLE),
]


def around(
    *volumes: Volume, mounts: tuple[MachineMount, ...] = (ROOT, DATA_MOUNT, CACHE_MOUNT), **more: Any
) -> MountFacts:
    known: dict[str, Volume] = {}
    for volume in volumes or VOLUMES:
        known[volume.id] = volume
        if volume.name:
            known[volume.name] = volume
    return MountFacts(more.pop("instance", INSTANCE), mounts, known, **more)


def plan(
    *texts: str, volumes: tuple[MountRequest, ...] = (), where: MountFacts | None = None, **more: Any
) -> MountPlan:
    requests = [*(parse_mount(text) for text in texts), *volumes]
    return plan_mounts(requests, where or around(), **{"automatic": False, **more})


def a_volume_request(volume: str, mount_point: str | None = None) -> MountRequest:
    """``--ebs-volume``, with its ``--mount-point``."""
    return MountRequest(volume, "", False, VOLUME_FLAG, mount_point)


def shown(found: MountPlan) -> list[tuple[str, str, str | None]]:
    return [(spec.source, spec.target, spec.volume_id) for spec in found.specs]
