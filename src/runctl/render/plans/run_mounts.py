"""A plan's mounts: each with its volume, its room, and the rule that asked for it."""

from __future__ import annotations

from typing import Any

from runctl.core.machine_models import Market
from runctl.core.text import size
from runctl.runs.mounts.plan import PlannedAttachment, PlannedMount
from runctl.runs.mounts.volume_conflicts import named
from runctl.runs.train.plan import RunPlan


def mount_rows(plan: RunPlan) -> list[tuple[str, str]]:
    """Labelled lines: what is attached first, every mount, where results go, and what else there is to know."""
    mounts = plan.mounts
    rows = [("attach", attachment_text(planned)) for planned in mounts.attachments]
    rows += [("mount", mount_text(mount)) for mount in mounts.mounts]
    if plan.instance.market is not Market.OWNED:
        rows.append(("saves", _saves(plan)))
    rows += [("note", note) for note in mounts.notes]
    return rows


def mount_text(mount: PlannedMount) -> str:
    """``/mnt/data -> /data (vol-0abc "datasets", read-write, 12.3 GiB free of 100.0 GiB; --ebs-mount)``."""
    spec = mount.spec
    facts = [_label(mount), "read-only" if spec.read_only else "read-write"]
    if mount.free_bytes is not None and mount.size_bytes is not None:
        facts.append(f"{size(mount.free_bytes)} free of {size(mount.size_bytes)}")
    elif mount.size_bytes is not None:
        facts.append(size(mount.size_bytes))
    return f"{spec.source} -> {spec.target} ({', '.join(facts)}; {spec.origin})"


def attachment_text(planned: PlannedAttachment) -> str:
    """``vol-0abc "datasets" (100 GiB gp3), then mounted at /mnt/data (by its name), formatted if it is blank``."""
    volume = planned.volume
    done = "is attached, gets mounted" if planned.attached else "gets attached, and mounted"
    mode = ", read-only" if planned.read_only else ""
    blank = "formatted if it is blank" if planned.formats_if_blank else "never formatted"
    what = f"{named(volume)} ({volume.size_gib} GiB {volume.type}, {volume.state.value})"
    return f"{what} {done} at {planned.mount_point} ({planned.reason}){mode}; {blank}"


def mounts_document(plan: RunPlan) -> dict[str, Any]:
    """The same for programs."""
    mounts = plan.mounts
    saves = mounts.saves
    return {
        "mounts": [_mount(mount) for mount in mounts.mounts],
        "attachments": [
            {
                "volume_id": planned.volume.id,
                "volume_name": planned.volume.name,
                "mount_point": planned.mount_point,
                "reason": planned.reason,
                "attached": planned.attached,
                "read_only": planned.read_only,
                "formats_if_blank": planned.formats_if_blank,
            }
            for planned in mounts.attachments
        ],
        "saves_to": None
        if saves is None
        else {"volume_id": saves.spec.volume_id, "source": saves.spec.source, "target": saves.spec.target},
        "notes": mounts.notes,
        "warnings": mounts.warnings,
    }


def _mount(mount: PlannedMount) -> dict[str, Any]:
    spec = mount.spec
    return {
        "source": spec.source,
        "target": spec.target,
        "read_only": spec.read_only,
        "volume_id": spec.volume_id,
        "origin": spec.origin,
        "volume_name": mount.volume.name if mount.volume is not None else None,
        "size_bytes": mount.size_bytes,
        "free_bytes": mount.free_bytes,
        "shared_with": [sharer.run_id for sharer in mount.shared_with],
    }


def _label(mount: PlannedMount) -> str:
    if mount.volume is not None:
        return named(mount.volume)
    return mount.spec.volume_id or "a folder"


def _saves(plan: RunPlan) -> str:
    saves = plan.mounts.saves
    if saves is None:
        return "on the machine's own disk, which ends with it: no volume is mounted for writing"
    return f"checkpoints and output below {saves.spec.target}/runs/{plan.run_id} ({_label(saves)})"
