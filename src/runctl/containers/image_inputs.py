"""What decides an image, and its digest: the same inputs give the same tag, so that nothing is built twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

from runctl._dataclasses import dataclass
from runctl.containers.dockerfile_text import DockerfileText, parse_dockerfile

DIGEST_LENGTH = 20
"""Hexadecimal digits in a tag: 80 bits."""
_VERSION = 1
"""Raised when the same inputs would make another image."""


@dataclass(frozen=True)
class ImageInputs:
    """Everything that goes into an image but the base images that no digest pins, and secrets, which leave no trace.

    A base image by tag may change behind its name; docker's own cache does not notice either:
    ``--pull`` asks anew.
    """

    dockerfile: str
    """From the root, with forward slashes."""
    dockerfile_text: str
    context: Mapping[str, str]
    """See `runctl.project.docker.build_context.BuildContext.entries`."""
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    platform: str | None = None
    """``linux/amd64``; ``None`` is the engine's own."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal digits."""
        parts: Mapping[str, Any] = {
            "version": _VERSION,
            # Its place does not matter to the image, nor do its comments, but parser directives are comments too.
            "dockerfile": self.dockerfile_text,
            "context": dict(self.context),
            "args": dict(self.args),
            "target": self.target,
            "platform": self.platform,
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def tag(self) -> str:
        """The digest as a tag."""
        return self.digest[:DIGEST_LENGTH]

    @cached_property
    def parsed(self) -> DockerfileText:
        """The Dockerfile's instructions."""
        return parse_dockerfile(self.dockerfile_text)


def repository_name(project: str) -> str:
    """The repository of a project's images: lower case, as registries want it (distribution's grammar)."""
    path = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "project"
    return f"runctl/{path[:100].rstrip('-')}"


def unpinned_bases(parsed: DockerfileText, target: str | None) -> tuple[str, ...]:
    """Base images that are named by a tag, which may mean another image tomorrow."""
    stages = parsed.needed(target)
    names = {stage.name for stage in parsed.stages if stage.name}
    return tuple(
        dict.fromkeys(
            stage.base
            for stage in stages
            if stage.base.lower() not in names
            and stage.base != "scratch"
            and not re.search(r"@sha256:[0-9a-f]{64}$", stage.base)
        )
    )
