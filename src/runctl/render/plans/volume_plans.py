"""Plans about volumes and snapshots as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from runctl.core.machine_models import Snapshot, Volume
from runctl.core.money import monthly, usd
from runctl.core.text import time_span
from runctl.costs.rates import Rate
from runctl.machines.replicas import ReplicasPlan, replica_name
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    Initialization,
    ResizePlan,
    SnapshotPlan,
    VolumePlan,
    difference,
)
from runctl.render.plans.machine_plans import because, block
from runctl.render.tables import PLAIN, WIDE, Column, Screen, details, fit
from runctl.storage.moving import Abandonment, MovePlan

UNTIL_DELETED = "it is deleted: attached or not, while its machine is stopped, and when that is gone"
INCREMENTAL = (
    "a snapshot is billed for the blocks that it does not share with the one before it: the prices are what each costs"
    " at the most. Deleting one frees only what no other needs"
)


def volume_plan_text(plan: VolumePlan) -> str:
    """Size, type, speed, zone and why, price and its source."""
    request = plan.request
    kept = "encrypted" if request.encrypted else "not encrypted"
    fields = [
        ("size", f"{plan.size_gib:,} GiB"),
        (
            "type",
            because(f"{_shape(request.type, request.iops, request.throughput)}, {kept}", request.type_reason),
        ),
        ("zone", because(request.zone or "left to the provider", plan.zone_reason)),
        ("price", _rate(plan.price)),
        ("until", UNTIL_DELETED),
    ]
    if plan.initialization is not None:
        fields.append(("filling", initialization_text(plan.initialization)))
    if request.snapshot_id:
        fields.insert(0, ("from", request.snapshot_id))
    if request.name:
        fields.insert(0, ("name", request.name))
    if request.multi_attach:
        fields.append(("shared", "up to 16 machines at once, all of them read-only once there are two"))
    if request.persistent:
        fields.append(("keeps", "marked persistent: delete and cleanup refuse it"))
    return block("create one volume:", fields)


def initialization_text(filling: Initialization) -> str:
    """How long it takes until all data is there, and what that costs."""
    most = "at most " if filling.estimated else ""
    data = f"{most}{filling.data_gib.normalize():f} GiB"
    if filling.rate is None or filling.takes is None:
        return (
            f"{data} in the background at the provider's own pace, slow where read first;"
            " --initialization-rate promises one"
        )
    price = "" if filling.price is None else f", {usd(filling.price.usd)} once ({filling.price.source})"
    return f"{data} at {filling.rate} MiB/s: loaded {time_span(filling.takes)} after creation{price}"


def snapshot_plan_text(plan: SnapshotPlan, now: datetime) -> str:
    """Of what, how much is copied, and what it costs."""
    volume = plan.volume
    before = plan.incremental_to
    fields = [
        ("of", _named(volume)),
        ("copies", "every block that was ever written"),
        ("price", f"at most {_rate(plan.price)}"),
    ]
    if before is not None:
        age = time_span(now - before.created_at)
        fields[1] = ("copies", f"what has changed since {before.name or before.id}, {age} ago")
        fields[2] = ("price", f"for what has changed only; at most {_rate(plan.price)}")
    fields.append(("until", "it is deleted; it outlives its volume"))
    if plan.name:
        fields.insert(0, ("name", plan.name))
    if plan.persistent:
        fields.append(
            ("keeps", "marked persistent, as the volume is" if volume.persistent else "marked persistent")
        )
    return block("take one snapshot:", fields)


def resize_plan_text(plan: ResizePlan) -> str:
    """What changes, what that costs, and what cannot be undone."""
    fields = [("volume", _named(plan.volume))]
    fields += [("change", text) for text in plan.changes]
    if not plan.changes:
        done = "under way already" if plan.pending is not None else "it is so already"
        fields.append(("change", f"none: {done}; a file system smaller than the volume grows"))
    if plan.changes:
        more = difference(plan.price_before, plan.price_after)
        extra = "" if more is None else f", {usd(abs(more))} {'more' if more >= 0 else 'less'} than now"
        fields.append(("price", f"{_rate(plan.price_after)}{extra}"))
    if plan.volume.attached_to is not None:
        fields.append(
            ("then", f"partition and file system grow on {plan.volume.attached_to}, while they are used")
        )
    else:
        fields.append(
            ("then", "it is not attached: attach it and repeat the command, and its file system grows")
        )
    fields += [("note", text) for text in plan.warnings]
    return block("change one volume:", fields)


def clone_plan_text(plan: ClonePlan) -> str:
    """Of what, as what, and what that costs."""
    fields = [
        ("of", _named(plan.source)),
        ("size", f"{plan.size_gib:,} GiB"),
        ("type", _shape(plan.type, plan.iops, plan.throughput)),
        ("zone", f"{plan.source.zone} (a copy stays in its zone; move takes one elsewhere)"),
        ("price", _rate(plan.price)),
        ("until", UNTIL_DELETED),
        ("copying", plan.copy_fee),
    ]
    if plan.name:
        fields.insert(0, ("name", plan.name))
    if plan.persistent:
        fields.append(("keeps", "marked persistent: delete and cleanup refuse it"))
    return block("copy one volume:", fields)


def move_plan_text(plan: MovePlan) -> str:
    """From where to where, in which steps, what is left behind, and what that costs."""
    title = "go on moving one volume:" if plan.resumes else "move one volume:"
    fields: list[tuple[str, str]] = []
    if plan.source is not None:
        fields.append(("from", f"{_named(plan.source)} in {plan.source.zone}"))
    fields.append(("to", plan.zone))
    if plan.finished is not None:
        fields.append(("new volume", f"{plan.finished.id} exists already"))
    elif plan.target is not None:
        request = plan.target.request
        fields += [
            ("steps", "snapshot, volume from it, checked, named; the snapshot is deleted"),
            (
                "new volume",
                f"{plan.target.size_gib:,} GiB, {_shape(request.type, request.iops, request.throughput)}",
            ),
            ("price", _rate(plan.target.price)),
        ]
    if plan.initialization is not None:
        fields.append(("filling", initialization_text(plan.initialization)))
    if plan.source is not None:
        name, price = plan.old_name or plan.source.id, plan.source.price_per_month
        cost = "paid for" if price is None else f"costs {monthly(price)}"
        kept = f"kept, and {cost}, as {name}, until you delete it"
        fields.append(("old volume", "deleted with its data" if plan.delete_source else kept))
    return block(title, fields)


def replicas_plan_text(plan: ReplicasPlan) -> str:
    """What is made where, what is deleted for it, what it costs, and for how long it is any good."""
    source = plan.source
    fields = [("of", f"{_named(source)} in {source.zone}")]
    for each in plan.replicas:
        name = replica_name(source, each.zone)
        if each.existing is not None:
            fields.append((each.zone, f"{_named(each.existing)} has the same data already"))
            continue
        costs = _rate(each.wanted.price) if each.wanted is not None else "-"
        fields.append((each.zone, f"a volume{f' {name}' if name else ''} from a temporary snapshot, {costs}"))
        fields += [("deleted", f"{_named(old)}, which lacks what was written since") for old in each.outdated]
    fields += [
        ("holds", "until one of them is mounted for writing"),
        ("until", "they are deleted: each is paid for until then"),
    ]
    return block("make replicas of one volume:", fields)


def abandon_text(plan: Abandonment) -> str:
    """What is deleted, and what stays."""
    fields = [("stays", f"{_named(plan.source)} in {plan.source.zone}, as it was")]
    if plan.unfinished is not None:
        fields.append(("deleted", f"the unfinished {plan.unfinished.id} in {plan.unfinished.zone}"))
    fields += [("deleted", f"the temporary snapshot {snapshot.id}") for snapshot in plan.snapshots]
    return block("give up moving one volume:", fields)


def snapshots_table(snapshots: Sequence[Snapshot], now: datetime, *, screen: Screen = PLAIN) -> str:
    """One line a snapshot."""
    states = [
        s.state.value if s.progress in {None, 100} else f"{s.state.value} {s.progress} %" for s in snapshots
    ]
    return fit(
        [
            Column("ID", [s.id for s in snapshots]),
            Column("NAME", [s.name for s in snapshots], 1, cut=True),
            Column("STATE", states, is_state=True),
            Column("OF", [s.tags.get("runctl:volume") or s.volume_id for s in snapshots], 2),
            Column("SIZE", [f"{s.volume_size_gib:,} GiB" for s in snapshots], 3, right=True),
            Column("DATA", [_data(s) for s in snapshots], WIDE, right=True),
            Column("AGE", [time_span(now - s.created_at) for s in snapshots], 2, right=True),
            Column("≤ $/MONTH", [_at_most(s) for s in snapshots], WIDE, right=True),
            Column("KEPT", ["persistent" if s.persistent else None for s in snapshots], WIDE),
        ],
        screen,
    )


def _data(snapshot: Snapshot) -> str | None:
    return None if snapshot.data_gib is None else f"{snapshot.data_gib.normalize():f} GiB"


def _at_most(snapshot: Snapshot) -> str | None:
    return None if snapshot.price_per_month is None else usd(snapshot.price_per_month)


def snapshots_sum(snapshots: Sequence[Snapshot]) -> str:
    """What all of them cost at the most, and why it is likely less."""
    total = sum((s.price_per_month for s in snapshots if s.price_per_month is not None), Decimal(0))
    many = "1 snapshot" if len(snapshots) == 1 else f"{len(snapshots)} snapshots"
    return f"{many}, at most {monthly(total)}; {INCREMENTAL}"


def snapshot_details(snapshot: Snapshot, now: datetime) -> str:
    """Everything about one snapshot."""
    return details(
        {
            "id": snapshot.id,
            "name": snapshot.name,
            "state": snapshot.state.value
            + ("" if snapshot.progress in {None, 100} else f", {snapshot.progress} % copied"),
            "of": " ".join(filter(None, [snapshot.tags.get("runctl:volume"), snapshot.volume_id])) or None,
            "volume's size": f"{snapshot.volume_size_gib:,} GiB",
            "data": _data(snapshot),
            "encrypted": "yes" if snapshot.encrypted else "no",
            "persistent": "yes" if snapshot.persistent else None,
            "taken": f"{snapshot.created_at:%Y-%m-%d %H:%M:%S} UTC, {time_span(now - snapshot.created_at)} ago",
            "price": None
            if snapshot.price_per_month is None
            else f"at most {monthly(snapshot.price_per_month)}",
        }
    )


def _named(volume: Volume) -> str:
    name = f"{volume.name} ({volume.id})" if volume.name else volume.id
    return f"{name}, {volume.size_gib:,} GiB {volume.type}"


def _shape(kind: str | None, iops: int | None, throughput: int | None) -> str:
    speed = [f"{iops:,} IOPS"] if iops else []
    speed += [f"{throughput:,} MiB/s"] if throughput else []
    return ", ".join([kind or "the provider's usual type", *speed])


def _rate(price: Rate | None) -> str:
    return f"{monthly(price.usd)} ({price.source})" if price else "not known"
