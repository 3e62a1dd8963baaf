"""Instances and volumes as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from runctl.core.models import Instance, Volume
from runctl.core.money import usd
from runctl.core.tags import EXPIRES_AT, LOGIN_USER, NAME
from runctl.render.tables import details, table


def instances_table(
    instances: Sequence[Instance], now: datetime, *, owners: bool = False, bold: bool = False
) -> str:
    """One line an instance."""
    if not instances:
        return ""
    headers = ["ID", "STATE", "TYPE", "MARKET", "ZONE", "ADDRESS", "$/HOUR", "AGE", "PROJECT", "NAME"]
    rows: list[list[str | None]] = [
        [
            i.id,
            i.state.value,
            i.instance_type,
            i.market.value,
            i.zone,
            i.public_ip or i.private_ip,
            None if i.price_per_hour is None else usd(i.price_per_hour),
            duration(now - i.created_at),
            i.project,
            i.tags.get(NAME),
        ]
        for i in instances
    ]
    if owners:
        headers.append("OWNER")
        for row, instance in zip(rows, instances, strict=True):
            row.append(instance.owner)
    return table(headers, rows, right=("$/HOUR", "AGE"), bold=bold)


def instance_details(instance: Instance, now: datetime) -> str:
    """Everything about one instance."""
    age = now - instance.created_at
    text = details(
        {
            "id": instance.id,
            "name": instance.tags.get(NAME),
            "state": instance.state.value,
            "type": instance.instance_type,
            "market": instance.market.value,
            "zone": instance.zone,
            "public address": instance.public_ip,
            "private address": instance.private_ip,
            "login user": instance.tags.get(LOGIN_USER),
            "price": None if instance.price_per_hour is None else f"{usd(instance.price_per_hour)} an hour",
            "project": instance.project,
            "owner": instance.owner,
            "created": f"{instance.created_at:%Y-%m-%d %H:%M:%S} UTC, {duration(age)} ago",
            "ends by itself": instance.tags.get(EXPIRES_AT),
        }
    )
    volumes = [[v.volume_id, v.device, v.mount_point] for v in instance.volumes]
    return text + ("\n\n" + table(["VOLUME", "DEVICE", "MOUNT POINT"], volumes) if volumes else "")


def volumes_table(volumes: Sequence[Volume], *, bold: bool = False) -> str:
    """One line a volume."""
    if not volumes:
        return ""
    headers = ["ID", "NAME", "STATE", "SIZE", "TYPE", "ZONE", "ATTACHED TO", "MOUNT POINT", "$/MONTH"]
    rows = [
        [
            v.id,
            v.name,
            v.state.value,
            f"{v.size_gib} GiB",
            v.type,
            v.zone,
            v.attached_to,
            v.mount_point,
            None if v.price_per_month is None else usd(v.price_per_month),
        ]
        for v in volumes
    ]
    return table(headers, rows, right=("SIZE", "$/MONTH"), bold=bold)


def volume_details(volume: Volume) -> str:
    """Everything about one volume."""
    speed = [
        f"{volume.iops:,} IOPS" if volume.iops else "",
        f"{volume.throughput:,} MiB/s" if volume.throughput else "",
    ]
    return details(
        {
            "id": volume.id,
            "name": volume.name,
            "state": volume.state.value,
            "size": f"{volume.size_gib} GiB",
            "type": ", ".join([volume.type, *(text for text in speed if text)]),
            "zone": volume.zone,
            "encrypted": "yes" if volume.encrypted else "no",
            "attached to": volume.attached_to,
            "device": volume.device,
            "mount point": volume.mount_point,
            "persistent": "yes" if volume.persistent else None,
            "price": None if volume.price_per_month is None else f"{usd(volume.price_per_month)} a month",
        }
    )


def duration(span: timedelta) -> str:
    """``45s``, ``12m``, ``3h05m``, ``2d4h``: two units at most."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{days}d{hours % 24}h"
