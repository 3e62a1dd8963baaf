"""The image of a run as names and command lines: plain data in, argument lists out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

from runctl.agent.spec import RunSpec


def tag(project: str, digest: str) -> str:
    """The image that is built from a project's tree: repository names are lower case (distribution's grammar)."""
    words = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "project"
    return "runctl/{}:{}".format(words, digest[:12] or "latest")


def build(spec: RunSpec, context: Path, image: str, *, plain_progress: bool) -> List[str]:
    """``docker build``: the context is the project root, wherever the Dockerfile is."""
    assert spec.container is not None  # noqa: S101 (a plan is made of a run in a container)
    # The old builder leaves the container of a step that fails, unless it is told not to.
    progress = ["--progress", "plain"] if plain_progress else ["--force-rm"]
    file = str(context / str(spec.container.dockerfile))
    labels = ["--label", "runctl.project=" + spec.project]
    return ["build", *progress, "--file", file, "--tag", image, *labels, str(context)]
