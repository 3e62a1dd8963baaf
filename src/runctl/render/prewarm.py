"""Prewarms for people and programs: the plan, how it goes, what was done."""

from __future__ import annotations

from typing import Any

from runctl.core.machine_models import Market
from runctl.core.money import hourly, usd
from runctl.core.text import counted, size, time_span
from runctl.render.json import to_builtins
from runctl.render.plans.machine_plans import create_plan_document
from runctl.render.traffic import requests_text
from runctl.runs.filling.fill import PrewarmResult
from runctl.runs.filling.plan import IDLE_MINUTES, ON_DEMAND_REASON, PrewarmPlan
from runctl.storage.pace import Pace


def prewarm_plan_text(plan: PrewarmPlan) -> str:
    """From where, onto what, on which machine and why, how long, at what price, and what is left afterwards."""
    volume = plan.request.volume
    named = f" ({volume.name})" if volume.name else ""
    fields = [("volume", f"{volume.id}{named}, {volume.size_gib} GiB {volume.type} in {volume.zone}")]
    if plan.request.source is not None:
        fields.append(("from", f"{plan.request.source}, {_amount(plan)}"))
        fields.append(
            ("into", f"{plan.into}{'; files deleted from S3 are removed' if plan.request.delete else ''}")
        )
    else:
        fields.append(("how", f"{_WAYS[plan.way]}: {plan.reason}"))
        fields += [("weighed", reason) for reason in plan.considered]
    fields += _machine(plan)
    if plan.way not in {"done", "wait"}:
        rate = f"at most {plan.estimate.mibps:,.0f} MiB/s, {plan.estimate.bound}"
        fields.append(("speed", rate))
    if plan.way != "done":
        fields.append(("takes", _takes(plan)))
    fields.append(("costs", _cost(plan)))
    if plan.requests is not None:
        fields.append(("requests", requests_text(plan.requests)))
    fields.append(("afterwards", _afterwards(plan)))
    width = max(len(name) for name, _ in fields)
    return "\n".join(["prewarm one volume:", *(f"  {name.ljust(width)}  {text}" for name, text in fields)])


_WAYS = {"read": "every block is read", "wait": "waiting", "done": "nothing to do"}


def _amount(plan: PrewarmPlan) -> str:
    stored = plan.stored
    if stored is None or stored.objects is None or stored.size_bytes is None:
        return "of a size that is not known"
    least = "" if stored.whole else "at least "
    return f"{least}{counted(stored.objects, 'object')}, {size(stored.size_bytes)}"


def _machine(plan: PrewarmPlan) -> list[tuple[str, str]]:
    if plan.where == "attached" and plan.instance is not None:
        kind = plan.instance.instance_type
        return [("machine", f"{plan.instance.id} ({kind}): {plan.machine_reason}")]
    if plan.where == "helper-found" and plan.instance is not None:
        return [
            ("machine", f"helper {plan.instance.id} ({plan.instance.instance_type}): {plan.machine_reason}")
        ]
    machine = plan.machine
    if machine is None:
        return []
    market = f"{machine.market.value} ({ON_DEMAND_REASON})" if machine.market is Market.ON_DEMAND else "spot"
    fields = [
        ("machine", f"a helper, {machine.instance_type} in {machine.zone}: {plan.machine_reason}"),
        ("market", market),
    ]
    if machine.price is not None:
        fields.append(("price", f"{hourly(machine.price.usd)} ({machine.price.source})"))
    fields += [("also makes", resource) for resource in machine.will_also_create]
    if machine.ttl is not None:
        fields.append(
            (
                "ends",
                f"when it is done; by itself {IDLE_MINUTES} minutes after, or after {time_span(machine.ttl)}",
            )
        )
    return fields


def _takes(plan: PrewarmPlan) -> str:
    boot = ", with starting and ending the machine" if plan.where == "helper" else ""
    return f"about {span(plan.estimate.seconds)}{boot}"


def _cost(plan: PrewarmPlan) -> str:
    if plan.way in {"done", "wait"} or not plan.on_helper:
        return "nothing more"
    return "not known" if plan.estimate.usd is None else f"about {usd(plan.estimate.usd)}"


def _afterwards(plan: PrewarmPlan) -> str:
    if plan.where == "nowhere":
        return "the volume stays as it is"
    if plan.on_helper or plan.request.detach:
        return "the volume is unmounted and detached"
    if plan.request.source is None:
        return "the volume stays attached"
    return "the volume stays attached" + (
        " and mounted" if plan.was_mounted else ", not mounted, as it is now"
    )


def span(seconds: float) -> str:
    """For a person: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def pace_text(pace: Pace) -> str:
    """``1.2 GiB of 4.0 GiB, 310 of 1,000 files, 96.0 MiB/s, 30 s left``."""
    parts = [f"{size(pace.done)} of {size(pace.total)}"]
    if pace.files is not None and pace.of_files is not None:
        parts.append(f"{pace.files:,} of {counted(pace.of_files, 'file')}")
    if pace.bytes_per_second:
        parts.append(f"{size(int(pace.bytes_per_second))}/s")
    if pace.seconds_left is not None and pace.done < pace.total:
        parts.append(f"{span(pace.seconds_left)} left")
    return ", ".join(parts)


def prewarm_plan_document(plan: PrewarmPlan) -> dict[str, Any]:
    """The plan for programs; documented in docs/json.md."""
    volume, stored = plan.request.volume, plan.stored
    return {
        "volume_id": volume.id,
        "zone": volume.zone,
        "way": plan.way,
        "reason": plan.reason or None,
        "considered": list(plan.considered),
        "source": str(plan.request.source) if plan.request.source else None,
        "objects": stored.objects if stored else None,
        "size_bytes": plan.size_bytes,
        "into": plan.into,
        "where": plan.where,
        "instance_id": plan.instance.id if plan.instance else None,
        "machine": create_plan_document(plan.machine) if plan.machine else None,
        "machine_reason": plan.machine_reason or None,
        "mib_per_second": round(plan.estimate.mibps, 1),
        "bound": plan.estimate.bound,
        "seconds": round(plan.estimate.seconds),
        "cost": to_builtins(plan.estimate.usd),
        "requests": to_builtins(plan.requests),
        "afterwards": _afterwards(plan),
        "warnings": list(plan.warnings),
    }


def prewarm_document(result: PrewarmResult) -> dict[str, Any]:
    """What was done, for programs; documented in docs/json.md."""
    done, plan = result.done, result.plan
    return {
        "volume_id": result.volume.id,
        "way": plan.way,
        "source": str(plan.request.source) if plan.request.source else None,
        "into": done.get("into"),
        "files": done.get("files"),
        "bytes": done.get("bytes"),
        "fetched_files": done.get("fetched_files"),
        "fetched_bytes": done.get("fetched_bytes"),
        "removed_files": done.get("removed_files"),
        "proofs": done.get("proofs"),
        "only_from_source": done.get("only_from_source"),
        "other_path": done.get("other_path"),
        "seconds": round(result.seconds, 1),
        "instance_id": result.instance.id if result.instance else None,
        "helper": plan.on_helper,
        "run_id": result.run_id,
        "cost": to_builtins(result.cost),
        "attached_to": result.volume.attached_to,
    }


def prewarm_text(result: PrewarmResult) -> str:
    """What was done, for a person."""
    done, plan, volume = result.done, result.plan, result.volume
    took = span(result.seconds)
    if plan.way == "done":
        return f"{volume.id}: nothing to do, {plan.reason}"
    if plan.way == "wait":
        return f"{volume.id}: all its blocks are loaded, after {took}"
    cost = (
        ""
        if not plan.on_helper
        else f", {usd(result.cost)}"
        if result.cost is not None
        else ", price not known"
    )
    if plan.way == "read":
        return f"{volume.id}: all {size(done.get('bytes') or 0)} have been read, in {took}{cost}"
    proofs = ", ".join(
        f"{count:,} by {_PROOFS.get(kind, kind)}" for kind, count in sorted(done["proofs"].items())
    )
    fetched = f"{done['fetched_files']:,} fetched ({size(done['fetched_bytes'])})"
    removed = f", {done['removed_files']:,} removed" if done.get("removed_files") else ""
    files = counted(done["files"], "file")
    return (
        f"{volume.id}: {files}, {size(done['bytes'])} from {plan.request.source}; {fetched}{removed},"
        f" in {took}{cost}\n  verified: {proofs or 'nothing to verify'}{_others(done.get('other_path'))}"
    )


def _others(path: str | None) -> str:
    """What else is on the volume, and what follows from that."""
    if path is None:
        return ""
    return f"\n  other files are on it too, such as {path}: a run that reads it cannot have it filled anew from there"


_PROOFS = {
    "crc32": "CRC-32",
    "sha1": "SHA-1",
    "sha256": "SHA-256",
    "md5": "MD5",
    "etag": "the MD5s of their parts",
    "size": "size alone (S3 has no checksum of theirs)",
}
