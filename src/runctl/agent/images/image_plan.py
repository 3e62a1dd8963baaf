"""The image of a run as names and command lines: plain data in, argument lists out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from runctl.agent.spec import RunSpec


def tag(project: str, digest: str) -> str:
    """The image that is built from a project's tree: repository names are lower case (distribution's grammar)."""
    words = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "project"
    return "runctl/{}:{}".format(words, digest[:12] or "latest")


def build(
    spec: RunSpec,
    context: Path,
    image: str,
    *,
    plain_progress: bool,
    secrets: Mapping[str, str] | None = None,
    stage: str | None = None,
) -> list[str]:
    """``docker build``: the context is the project root, wherever the Dockerfile is; ``secrets`` are files by id.

    With ``stage`` it is the image of that stage alone, to be a cache.
    """
    assert spec.container is not None  # noqa: S101 (a plan is made of a run in a container)
    # The old builder leaves the container of a step that fails, unless it is told not to.
    progress = ["--progress", "plain"] if plain_progress else ["--force-rm"]
    file = str(context / str(spec.container.dockerfile))
    labels = {"runctl.project": spec.project}
    options: list[str] = []
    how = spec.container.build
    if how is not None:
        labels["runctl.project"] = how.project or spec.project
        if stage is None:
            labels["runctl.inputs"] = how.inputs
        target = stage or how.target
        options += ["--target", target] if target else []
        options += ["--platform", how.platform] if how.platform and plain_progress else []
        options += ["--pull"] if how.pull and stage is None else []
        options += ["--no-cache"] if how.no_cache and stage is None else []
        for name, value in sorted(how.args.items()):
            options += ["--build-arg", f"{name}={value}"]
        if how.published and plain_progress:
            # What is pushed can be a cache to others then.
            options += ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]
        for name in how.secrets:
            options += ["--secret", f"id={name},src={(secrets or {})[name]}"]
        if plain_progress and not how.no_cache:
            options += [word for reference in how.cache_from for word in ("--cache-from", reference)]
    marks = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    return ["build", *progress, "--file", file, "--tag", image, *options, *marks, str(context)]
