"""Dockerfiles, builds and images, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runctl.containers.dockerfile_text import DockerfileText
from runctl.project.dockerfile import DockerfileChoice
from runctl.render.tables import details


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
            "left out by": found["ignore_file"] or "nothing: there is no .dockerignore",
            "stages": ", ".join(f"{stage['target']} (from {stage['base']})" for stage in found["stages"]),
        }
    )
