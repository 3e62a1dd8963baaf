"""What EC2 describes, as runctl's models: pure functions over the API's answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.errors import UsageError
from runctl.core.ids import InstanceId, SnapshotId, VolumeId
from runctl.core.machine_models import (
    AttachedVolume,
    Instance,
    InstanceState,
    Market,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeState,
)

if TYPE_CHECKING:
    from runctl.providers.aws.prices.region_rates import RegionRates

DATA_DEVICE = "/dev/sdf"
"""Where the volume that is created with an instance is attached."""
DATA_VOLUME = "data"
"""Its name in the `MOUNTS` tag: its id is not known when the tag is written."""
_READ_ONLY = "ro"
TAG_VALUE_LIMIT = 256
INTERRUPTIONS = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
"""Codes of ``StateReason`` by which EC2 says that it took a spot instance back (EC2 User Guide, StateReason)."""
SHUT_DOWN_FROM_INSIDE = "Client.InstanceInitiatedShutdown"
"""Of an instance that was shut down by its own operating system (same page)."""

_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z")
_MOUNT_POINT = re.compile(r"/[A-Za-z0-9._/@:+-]*[A-Za-z0-9._@:+-]")
_XEN_FAMILIES = {
    "t1",
    "t2",
    "m1",
    "m2",
    "m3",
    "m4",
    "c1",
    "c3",
    "c4",
    "r3",
    "r4",
    "x1",
    "x1e",
    "d2",
    "h1",
    "i2",
    "i3",
    "f1",
    "g2",
    "g3",
    "g3s",
    "p2",
    "p3",
    "cc2",
    "cr1",
    "hs1",
}


def tags_of(described: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """``[{"Key":…, "Value":…}]`` as a mapping."""
    return {item["Key"]: item.get("Value", "") for item in described or ()}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """A mapping as ``[{"Key":…, "Value":…}]``."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def mounts_tag(mounts: Iterable[tuple[str, str]]) -> str:
    """``vol-0abc=/mnt/data`` pairs, joined by spaces. Raises `UsageError` for what a tag cannot hold."""
    pairs = []
    for volume, mount_point in mounts:
        pairs.append(f"{volume}={checked_mount_point(mount_point)}")
    text = " ".join(pairs)
    if len(text) > TAG_VALUE_LIMIT:
        raise UsageError(
            f"these {len(pairs)} mounts do not fit into a tag of {TAG_VALUE_LIMIT} characters",
            hint="use shorter mount points, or attach some later: runctl aws ebs attach",
        )
    return text


def mounts_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Mount point by volume id (or `DATA_VOLUME`) from an instance's tags; what is not a pair is left out."""
    since = _mounts_since(tags)
    found = {volume: point for volume, point in launch_mounts_of(tags).items() if volume not in since}
    return found | {volume: point for volume, (point, _) in since.items() if point}


def launch_mounts_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The same, of what the instance was launched with, whatever has become of it since."""
    pairs = (pair.partition("=") for pair in tags.get(tag.MOUNTS, "").split())
    return {volume: mount_point for volume, equals, mount_point in pairs if equals and mount_point}


def _mounts_since(tags: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """Mount point, which may be empty, and whether it is read-only."""
    found = {}
    for key, value in tags.items():
        if key.startswith(tag.MOUNT):
            point, _, how = value.partition(" ")
            found[key.removeprefix(tag.MOUNT)] = (point, how == _READ_ONLY)
    return found


def mount_tag(mount_point: str, *, read_only: bool) -> str:
    """The value of the tag `runctl.core.tags.MOUNT`. Raises `UsageError` for what it cannot hold."""
    return (
        f"{checked_mount_point(mount_point)} {_READ_ONLY}" if read_only else checked_mount_point(mount_point)
    )


def read_only_of(tags: Mapping[str, str]) -> frozenset[str]:
    """Ids of the volumes that an instance mounts read-only, from its tags."""
    since = _mounts_since(tags)
    launched = (volume for volume in tags.get(tag.READ_ONLY, "").split() if volume not in since)
    return frozenset((*launched, *(volume for volume, (_, read_only) in since.items() if read_only)))


def checked_mount_point(mount_point: str) -> str:
    """The mount point itself, absolute, plain and below the root folder. Raises `UsageError`."""
    parts = mount_point.split("/")
    if not _MOUNT_POINT.fullmatch(mount_point) or ".." in parts or "." in parts or "" in parts[1:]:
        raise UsageError(
            f"{mount_point!r} cannot be a mount point",
            hint="use an absolute path of letters, digits and ._@:+-, such as /mnt/data",
        )
    return mount_point


def instance_of(described: Mapping[str, Any], price_per_hour: Decimal | None = None) -> Instance:
    """An item of ``DescribeInstances`` or ``RunInstances``."""
    tags = tags_of(described.get("Tags"))
    mounts = mounts_of(tags)
    root = described.get("RootDeviceName")
    volumes = []
    for mapping in described.get("BlockDeviceMappings", ()):
        if "Ebs" not in mapping:
            continue
        device, volume_id = mapping["DeviceName"], mapping["Ebs"]["VolumeId"]
        mount_point = mounts.get(volume_id)
        if mount_point is None and device == DATA_DEVICE and device != root:
            mount_point = mounts.get(DATA_VOLUME)
        volumes.append(AttachedVolume(VolumeId(volume_id), device, mount_point))
    return Instance(
        id=InstanceId(described["InstanceId"]),
        provider="aws",
        state=InstanceState(described["State"]["Name"]),
        instance_type=described["InstanceType"],
        market=Market.SPOT if described.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        zone=described.get("Placement", {}).get("AvailabilityZone"),
        public_ip=described.get("PublicIpAddress") or None,
        private_ip=described.get("PrivateIpAddress") or None,
        price_per_hour=price_per_hour,
        project=tags.get(tag.PROJECT),
        owner=tags.get(tag.OWNER),
        created_at=utc(described.get("LaunchTime")),
        volumes=tuple(volumes),
        tags=tags,
        state_reason=described.get("StateReason", {}).get("Message") or None,
        interrupted=described.get("StateReason", {}).get("Code") in INTERRUPTIONS,
        ended_at=_ended_at(described),
        ended_itself=described.get("StateReason", {}).get("Code") == SHUT_DOWN_FROM_INSIDE,
    )


def _ended_at(described: Mapping[str, Any]) -> datetime | None:
    """From ``StateTransitionReason``, such as ``User initiated (2026-05-01 12:00:00 GMT)``: the one place where EC2
    says it of an instance."""
    if described["State"]["Name"] in {"pending", "running"}:
        return None
    told = re.search(
        r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", described.get("StateTransitionReason") or ""
    )
    return datetime.strptime(told.group(1), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if told else None


def volume_of(
    described: Mapping[str, Any],
    rates: RegionRates,
    instance_type: str | None = None,
    *,
    seen_from: str | None = None,
) -> Volume:
    """An item of ``DescribeVolumes``; ``instance_type`` is that of the instance it is attached to.

    Of several instances, ``seen_from`` is the one whose attachment counts, else the first.
    """
    from runctl.providers.abilities.volume_plans import DiskShape

    tags = tags_of(described.get("Tags"))
    attachments = [
        a for a in described.get("Attachments", ()) if a.get("State") not in {"detached", "detaching"}
    ]
    attachment = next(
        (a for a in attachments if a["InstanceId"] == seen_from), attachments[0] if attachments else None
    )
    shape = DiskShape(
        described.get("VolumeType", "standard"),
        described["Size"],
        described.get("Iops"),
        described.get("Throughput"),
    )
    price = rates.volume(shape)
    volume_id = VolumeId(described["VolumeId"])
    device = attachment.get("Device") if attachment else None
    return Volume(
        id=volume_id,
        name=tags.get(tag.NAME) or None,
        state=VolumeState(described["State"]),
        size_gib=shape.size_gib,
        type=shape.type,
        iops=shape.iops,
        throughput=shape.throughput,
        zone=described["AvailabilityZone"],
        encrypted=bool(described.get("Encrypted")),
        attached_to=InstanceId(attachment["InstanceId"]) if attachment else None,
        device=device_path(volume_id, device, instance_type) if device else None,
        mount_point=tags.get(tag.MOUNT_POINT) or None if attachment else None,
        persistent=tags.get(tag.PERSISTENT) == "true",
        price_per_month=price.usd if price else None,
        tags=tags,
        multi_attach=bool(described.get("MultiAttachEnabled")),
        instances=tuple(InstanceId(a["InstanceId"]) for a in attachments),
        ends_with_instance=bool(attachment and attachment.get("DeleteOnTermination")),
        snapshot_id=SnapshotId(described["SnapshotId"]) if described.get("SnapshotId") else None,
        created_at=utc(described["CreateTime"]) if described.get("CreateTime") else None,
        source_volume_id=VolumeId(described["SourceVolumeId"]) if described.get("SourceVolumeId") else None,
    )


def snapshot_of(described: Mapping[str, Any], rates: RegionRates) -> Snapshot:
    """An item of ``DescribeSnapshots``, or what ``CreateSnapshot`` answers."""
    tags = tags_of(described.get("Tags"))
    in_full = described.get("FullSnapshotSizeInBytes")
    # EC2 rounds what it bills to the byte; a hundredth of a GiB is enough for people.
    data_gib = None if in_full is None else (Decimal(in_full) / (1 << 30)).quantize(Decimal("0.01"), ROUND_UP)
    size = described["VolumeSize"]
    done = re.fullmatch(r"(\d+)%", described.get("Progress") or "")
    volume_id = described.get("VolumeId")
    price = rates.snapshot(size if data_gib is None else data_gib)
    return Snapshot(
        id=SnapshotId(described["SnapshotId"]),
        name=tags.get(tag.NAME) or None,
        state=SnapshotState(described["State"]),
        progress=int(done.group(1)) if done else None,
        # Copies of snapshots have a made-up volume.
        volume_id=VolumeId(volume_id) if volume_id and volume_id != "vol-ffffffff" else None,
        volume_size_gib=size,
        data_gib=data_gib,
        encrypted=bool(described.get("Encrypted")),
        persistent=tags.get(tag.PERSISTENT) == "true",
        price_per_month=price.usd if price else None,
        description=described.get("Description") or "",
        created_at=utc(described.get("StartTime")),
        tags=tags,
    )


def device_path(volume_id: str, device: str, instance_type: str | None) -> str:
    """Where the machine finds the volume's block device, whatever name the kernel gave it.

    Nitro machines have a link by serial number (see "Amazon EBS volumes and NVMe" in the EC2 user guide); on the
    older Xen families the device's own letter holds.
    """
    if instance_type is not None and _is_xen(instance_type):
        return re.sub(r"^/dev/(?:sd|xvd)", "/dev/xvd", device)
    return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"


def device_in_use(described: Mapping[str, Any]) -> frozenset[str]:
    """The device names that an instance has taken."""
    return frozenset(mapping["DeviceName"] for mapping in described.get("BlockDeviceMappings", ()))


def free_device(taken: Iterable[str]) -> str | None:
    """The first of ``/dev/sdf`` to ``/dev/sdp`` that is free, what EC2 recommends for EBS volumes.

    ``/dev/xvdf`` takes ``/dev/sdf`` too, and so does a numbered ``/dev/sdf1``.
    """
    letters = {match.group(1) for name in taken if (match := re.match(r"/dev/(?:sd|xvd)([a-z])", name))}
    return next((f"/dev/sd{letter}" for letter in "fghijklmnop" if letter not in letters), None)


def state_reason(described: Mapping[str, Any]) -> str:
    """Why an instance is in its state, in EC2's words; empty when it does not say."""
    reason = described.get("StateReason", {})
    return str(reason.get("Message") or described.get("StateTransitionReason") or "")


def utc(moment: datetime | None) -> datetime:
    """Aware, in UTC."""
    if moment is None:
        return datetime.fromtimestamp(0, UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_time(value: Any) -> datetime:
    """A time in an answer of AWS's; botocore's own parser takes half of the time in which a long list is read."""
    if isinstance(value, str) and _UTC_TIME.fullmatch(value):
        return datetime.fromisoformat(value)
    from botocore.utils import parse_timestamp

    found: datetime = parse_timestamp(value)
    return found


def _is_xen(instance_type: str) -> bool:
    family, _, size = instance_type.partition(".")
    return family in _XEN_FAMILIES and not size.startswith("metal")
