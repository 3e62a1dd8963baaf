"""A `RunPlan` for a person: what will run where, what it sees, and what it costs."""

from __future__ import annotations

import shlex
from typing import Any

from runctl.agent.checkpoint_spec import CHECKPOINT_SIGNALS
from runctl.agent.spec import CONTRACT_ROOT, ContainerSpec
from runctl.containers.where import LOCAL
from runctl.core.machine_models import Market
from runctl.core.money import hourly
from runctl.core.text import counted, exact_span, size
from runctl.project.left_out import described
from runctl.providers.registry import is_this_computer
from runctl.render.json import to_builtins
from runctl.render.plans.run_mounts import mount_rows, mounts_document
from runctl.runs.relocation import relocation_text
from runctl.runs.train.plan import RunPlan
from runctl.runs.train.spot_risk import risk_text


def run_plan_lines(plan: RunPlan, *, price: bool = True) -> list[str]:
    """The plan as ``label  value`` lines; without the machine's ``price`` where that is told elsewhere."""
    instance, project, spec = plan.instance, plan.project, plan.spec
    selection = project.sent.selection
    rows = [
        ("run", f"{spec.run_id} on {instance.id} ({_machine(plan)})"),
        ("command" if spec.is_command else "script", _what_runs(plan)),
        ("project", f"{project.root.path} ({project.root.reason})"),
    ]
    if selection is not None:
        sent = f"{counted(len(selection.found), 'file')}, {size(selection.total_bytes)}"
        rows.append(("code", f"{sent}, selected by {selection.selected_by}"))
        if project.sent.left_out:
            rows.append(("left out", described(project.sent.left_out)))
    else:
        rows.append(("code", "not synced (--no-sync-code)"))
    if project.container is None:
        rows.append(("runs", f"on the host ({project.container_reason})"))
        rows.append(("needs", project.dependencies_reason))
    else:
        source = _source(plan, project.container)
        rows.append(("runs", f"in a container from {source} ({project.container_reason})"))
        rows.append(("needs", project.dependencies_reason))
        rows += image_rows(plan)
        rows += _compose_rows(plan)
    rows += mount_rows(plan)
    if spec.contract is not None:
        rows.append(("finds", f"what {spec.contract} gives a script: {CONTRACT_ROOT} and its variables"))
    rows += _checkpoint_rows(plan)
    if spec.resume_from is not None:
        where = spec.resume_from if "://" in spec.resume_from else spec.resume_from + " on the machine"
        rows.append(("resumes", f"from the newest complete checkpoint at {where}"))
    if plan.recovery.auto_resume:
        rules = plan.recovery.rules
        within = exact_span(rules.retry_within)
        when = f"at most {rules.max_attempts} attempts, each machine found within {within}"
        rows.append(("recovers", f"on another machine, while --wait or runs watch is running: {when}"))
        if plan.relocation.moves or plan.relocation.why_not:
            rows.append(("volumes", relocation_text(plan.relocation)))
    if spec.timeout_seconds is not None:
        rows.append(("limit", limit_text(spec.timeout_seconds, spec.grace_seconds)))
    if price and instance.price_per_hour is not None and instance.market is not Market.OWNED:
        rows.append(("price", f"{hourly(instance.price_per_hour)} ({instance.market.value})"))
    return [f"{label:<8} {value}" for label, value in rows]


def run_plan_document(plan: RunPlan) -> dict[str, Any]:
    """The plan for programs; the values of variables are left out, as they may be secret."""
    project, spec = plan.project, plan.spec
    selection = project.sent.selection
    document: dict[str, Any] = to_builtins(
        {
            "run_id": plan.run_id,
            "instance": plan.instance,
            "project_root": project.root.path,
            "script": spec.script,
            "args": spec.args,
            "is_command": spec.is_command,
            "code": None
            if selection is None
            else {
                "files": len(selection.found),
                "bytes": selection.total_bytes,
                "left_out": [
                    {"path": left.path, "files": left.files, "is_more": left.is_more}
                    for left in project.sent.left_out
                ],
            },
            "container": spec.container,
            "image": plan.image,
            "dependencies": spec.dependencies,
            **mounts_document(plan),
            "env": sorted(spec.env),
            "compose_env": sorted(spec.compose_env),
            "timeout_seconds": spec.timeout_seconds,
            "grace_seconds": spec.grace_seconds,
            "contract": spec.contract,
            "checkpoint_signal": spec.checkpoint_signal or CHECKPOINT_SIGNALS[0],
            "store": spec.store,
            "checkpoint_schedule": spec.checkpoint_schedule,
            "spot_risk": _risk_document(plan),
            "auto_resume": plan.recovery.auto_resume,
            "max_attempts": plan.recovery.rules.max_attempts,
            "retry_within_seconds": plan.recovery.rules.retry_within,
            "resume_from": spec.resume_from,
            "resume_args": spec.resume_args,
        }
    )
    return document


def limit_text(timeout_seconds: float, grace_seconds: float) -> str:
    """``12h00m, then SIGTERM and 30s of grace``."""
    return f"{exact_span(timeout_seconds)}, then SIGTERM and {exact_span(grace_seconds)} of grace"


def _checkpoint_rows(plan: RunPlan) -> list[tuple[str, str]]:
    """Where else they are kept, which stay there, and how often the script is asked for one."""
    store, schedule = plan.spec.store, plan.spec.checkpoint_schedule
    rows = []
    if store is not None:
        kept = "all stay" if store.keep_last is None else f"the newest {store.keep_last} stay"
        best = "".join(f", and {pattern}" for pattern in store.keep_best)
        at = f" at {store.endpoint}" if store.endpoint else ""
        rows.append(("publishes", f"checkpoints and log to {store.url}/{plan.run_id}{at}; {kept}{best}"))
    if plan.spot_risk is not None:
        rows.append(("at risk", f"nothing saved outlives the machine: {risk_text(plan.spot_risk)}"))
    if schedule is not None:
        often = (
            "as often as it is worth its time"
            if schedule.every_seconds is None
            else f"every {exact_span(schedule.every_seconds)}"
        )
        rows.append(("checkpoints", f"the script is asked for one {often}"))
    return rows


def _risk_document(plan: RunPlan) -> dict[str, Any] | None:
    if plan.spot_risk is None:
        return None
    lifetime = plan.spot_risk.lifetime
    return {
        "between_interruptions_seconds": lifetime.mean,
        "interruptions_seen": lifetime.interruptions,
        "costs": plan.spot_risk.costs,
    }


def _source(plan: RunPlan, container: ContainerSpec) -> str:
    if container.compose is not None:
        return f"the service {container.compose} of {container.compose_file}, along with the others"
    return container.image or f"{container.dockerfile}, built {_where(plan)}"


def _compose_rows(plan: RunPlan) -> list[tuple[str, str]]:
    """Where the values come from that Compose fills in; never the values."""
    sources = plan.project.compose.variables.sources if plan.project.compose is not None else {}
    if not sources:
        return []
    return [("compose", ", ".join(f"{name} from {source}" for name, source in sources.items()))]


def image_rows(plan: RunPlan) -> list[tuple[str, str]]:
    """The image, where it is built and why there, and what comes into being for it."""
    image = plan.image
    if image is None:
        return []
    state = {
        "machine": "is on the machine already: nothing to build",
        "registry": "is in the registry already: nothing to build, nothing to push",
        "engine": "is in this computer's engine already: to be pushed",
        None: "to be built here, pushed, and pulled by the machine"
        if image.where == LOCAL
        else "to be built",
    }[image.there]
    container = plan.spec.container
    if image.there is None and container is not None and container.code == "mount":
        state = "to be built, unless the last one differs in nothing but code"
    rows = [("image", f"{image.reference} ({state})"), ("build", f"{_where(plan)}: {image.reason}")]
    if image.published is not None:
        rows.append(("push", f"{image.published}, before the run starts: other machines need not build it"))
    return rows + [("creates", text) for text in image.will_create]


def _where(plan: RunPlan) -> str:
    return "here" if plan.image is not None and plan.image.where == LOCAL else "on the machine"


def _what_runs(plan: RunPlan) -> str:
    spec = plan.spec
    if not spec.script:
        container = plan.project.container
        return (
            "what the service itself starts"
            if container and container.compose
            else "what the image itself starts"
        )
    return shlex.join([*spec.interpreter, spec.script, *spec.args])


def _machine(plan: RunPlan) -> str:
    instance = plan.instance
    if is_this_computer(instance.provider):
        return "this computer"
    parts = [instance.instance_type, instance.market.value]
    return ", ".join([*parts, instance.zone] if instance.zone else parts)
