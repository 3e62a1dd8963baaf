"""Tells the machine what its image is made of besides the code, so that dev-mode knows when to build."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from runctl.agent.spec import ContainerSpec
from runctl.containers.dev_image import dev_image
from runctl.core.errors import ProjectError
from runctl.project.root import ProjectRoot


def with_dev_parts(
    container: ContainerSpec, root: ProjectRoot, script: str | None, files: Iterable[str]
) -> ContainerSpec:
    """The container with what `runctl.containers.dev_image` finds; as it is when nothing is built.

    ``files`` are what is sent, from the root. The options of the build are added by whoever decides on them. Raises
    `ProjectError` for what cannot be read.
    """
    if container.dockerfile is None:
        return container
    target = container.build.target if container.build is not None else None
    try:
        text = (root.path / container.dockerfile).read_text(encoding="utf-8-sig")
        found = dev_image(
            text,
            script,
            files,
            lambda path: _content(root.path / path),
            workdir=container.workdir,
            target=target,
            options={"dockerfile": container.dockerfile},
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"what the image is made of cannot be read: {error}") from error
    return replace(container, dev_parts=found.parts, dev_notes=found.notes)


def _content(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
