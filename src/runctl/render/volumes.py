"""Volumes as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from runctl.core.machine_models import Volume
from runctl.core.money import monthly, usd_if_known
from runctl.render.tables import PLAIN, WIDE, Column, Screen, details, fit


def volumes_table(volumes: Sequence[Volume], *, screen: Screen = PLAIN) -> str:
    """One line a volume."""
    return fit(
        [
            Column("ID", [v.id for v in volumes]),
            Column(
                "NAME",
                [v.name or ("(instance's disk)" if v.ends_with_instance else None) for v in volumes],
                1,
                cut=True,
            ),
            Column("STATE", [v.state.value for v in volumes], is_state=True),
            Column("SIZE", [f"{v.size_gib} GiB" for v in volumes], 2, right=True),
            Column("TYPE", [v.type for v in volumes], WIDE),
            Column("ZONE", [v.zone for v in volumes], 4),
            Column("ATTACHED TO", [v.attached_to for v in volumes], 3),
            Column("MOUNT POINT", [v.mount_point for v in volumes], WIDE),
            Column("$/MONTH", [usd_if_known(v.price_per_month) for v in volumes], WIDE, right=True),
        ],
        screen,
    )


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
            "price": None if volume.price_per_month is None else monthly(volume.price_per_month),
        }
    )
