"""Dockerfiles, builds and images, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.containers.building import Built, Pushed
from runctl.containers.dockerfile_text import DockerfileText
from runctl.containers.image_plan import ImagePlan
from runctl.containers.stored_images import StoredImage
from runctl.core.text import counted, size
from runctl.project.docker.build_context import BuildContext
from runctl.project.docker.dockerfile import DockerfileChoice
from runctl.render.json import to_builtins
from runctl.render.tables import PLAIN, Column, Screen, details, fit

if TYPE_CHECKING:
    # With a provider's interface it takes a tenth of the time that a command with nothing to do takes.
    from runctl.providers.abilities.image_registry import RepositoryPlan


def detected_document(
    root: Path,
    choice: DockerfileChoice,
    ignore_file: str | None,
    parsed: DockerfileText,
    unpinned: Sequence[str],
) -> dict[str, Any]:
    """What ``docker detect`` found."""
    return {
        "dockerfile": choice.path,
        "found_by": choice.found_by,
        "reason": choice.reason,
        "not_used": list(choice.passed_over),
        "context": str(root),
        "ignore_file": ignore_file,
        "stages": [{"target": stage.target, "base": stage.base} for stage in parsed.stages],
        "unpinned_bases": list(unpinned),
    }


def detected_text(found: dict[str, Any]) -> str:
    """The same for a person."""
    return details(
        {
            "dockerfile": found["dockerfile"],
            "why": found["reason"],
            "context": found["context"],
            "left out by": found["ignore_file"] or "nothing: the project has no .dockerignore",
            "stages": "; ".join(_stage_text(stage) for stage in found["stages"]),
        }
    )


def _stage_text(stage: Mapping[str, str]) -> str:
    """Stages without a name are known by their number."""
    name = f"stage {stage['target']}" if stage["target"].isdigit() else stage["target"]
    return f"{name}, from {stage['base']}"


def image_plan_document(
    plan: ImagePlan, context: BuildContext, there: str | None, *, target: RepositoryPlan | None
) -> dict[str, Any]:
    """What a build or push would do."""
    return {
        "reference": plan.remote or plan.local,
        "tag": plan.tag,
        "project": plan.project,
        "dockerfile": plan.inputs.dockerfile,
        "target": plan.inputs.target,
        "platform": plan.inputs.platform,
        "build_args": sorted(plan.inputs.args),
        "context": {
            "files": context.files,
            "bytes": context.total_bytes,
            "ignored_by": context.ignored_by,
        },
        "there_already": there,
        "will_create": list(target.will_create) if target is not None else [],
    }


def image_plan_lines(
    plan: ImagePlan, context: BuildContext, there: str | None, *, target: RepositoryPlan | None
) -> list[str]:
    """The same for a person."""
    left_out = f", less what {context.ignored_by} names" if context.ignored_by else ""
    how = f"target {plan.inputs.target}, " if plan.inputs.target else ""
    rows = [
        ("image", plan.remote or plan.local),
        ("from", f"{plan.inputs.dockerfile} ({how}{plan.inputs.platform})"),
        ("context", f"{counted(context.files, 'file')}, {size(context.total_bytes)}{left_out}"),
    ]
    if there is not None:
        rows.append(("there", f"in the {there} already: nothing to build"))
    rows += [("creates", resource) for resource in (target.will_create if target is not None else ())]
    return [f"{label:<9}{value}" for label, value in rows]


def build_document(plan: ImagePlan, built: Built, pushed: Pushed | None) -> dict[str, Any]:
    """What was built, what of it came from the cache and why not the rest, and what was pushed."""
    return {
        "reference": pushed.reference if pushed is not None else built.reference,
        "tag": built.tag,
        "project": plan.project,
        "dockerfile": plan.inputs.dockerfile,
        "target": plan.inputs.target,
        "platform": plan.inputs.platform,
        "built": built.built,
        "found_in": None if built.built else built.where,
        "build_seconds": round(built.seconds, 3),
        "cache": None
        if built.report is None
        else {
            "cached": built.report.cached,
            "built": built.report.built,
            "breaks": to_builtins(built.report.breaks),
        },
        "push": None
        if pushed is None
        else {
            "pushed": pushed.pushed,
            "digest": pushed.digest,
            "layers": pushed.layers,
            "layers_sent": pushed.layers_sent,
            "seconds": round(pushed.seconds, 3),
            "caches": list(pushed.caches),
        },
    }


def build_text(plan: ImagePlan, built: Built) -> str:
    """How the cache served."""
    if not built.built:
        return f"{built.reference} is in the {built.where} already: nothing was built"
    lines = [f"built {built.reference} in {built.seconds:.1f} s"]
    report = built.report
    if report is not None:
        lines[0] += f": {counted(report.cached, 'step')} from the cache, {report.built} built"
        for cause in report.breaks:
            where = f"{plan.inputs.dockerfile}:{cause.line}" if cause.line else plan.inputs.dockerfile
            stage = f" (stage {cause.stage})" if cause.stage else ""
            lines.append(f"cache broken at {where}{stage}: {cause.instruction.splitlines()[0]}")
            more = "step" if cause.steps_after == 1 else "steps"
            after = f"; {cause.steps_after} more {more} after it" if cause.steps_after else ""
            lines.append(f"  because {cause.reason}{after}")
    return "\n".join(lines)


def push_text(pushed: Pushed | None) -> str:
    """What went over."""
    if pushed is None:
        return ""
    if not pushed.pushed:
        return f"{pushed.reference} is in the registry already: nothing was pushed"
    caches = f"; kept as caches: {', '.join(pushed.caches)}" if pushed.caches else ""
    return (
        f"pushed {pushed.layers_sent} of {counted(pushed.layers, 'layer')} in {pushed.seconds:.1f} s{caches}"
    )


def images_table(images: Sequence[StoredImage], *, screen: Screen = PLAIN) -> str:
    """One line an image."""
    return fit(
        [
            Column("IMAGE", [image.reference for image in images], cut=True),
            Column("WHERE", [image.where.value for image in images], 1),
            Column("SIZE", [size(image.size_bytes) for image in images], 2, right=True),
            Column("CREATED", [f"{image.created_at:%Y-%m-%d %H:%M}" for image in images], 3),
            Column("PROJECT", [image.project for image in images], 4),
        ],
        screen,
    )


def pruned_document(
    images: Sequence[StoredImage], failed: Sequence[tuple[StoredImage, str]], *, dry_run: bool
) -> dict[str, Any]:
    """What was removed, or would be."""
    return {
        "dry_run": dry_run,
        "removed": to_builtins(list(images)),
        "failed": [{"reference": image.reference, "reason": why} for image, why in failed],
        "bytes": sum(image.size_bytes for image in images),
    }


def pruned_lines(images: Sequence[StoredImage]) -> list[str]:
    """What goes."""
    return [
        f"remove   {image.reference} ({image.where.value}, {size(image.size_bytes)},"
        f" {image.created_at:%Y-%m-%d %H:%M})"
        for image in images
    ]
