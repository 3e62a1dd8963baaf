"""What is asked of a run's image, and what has been settled of it: values, and what a built image is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec
from runctl.containers.image_plan import AS_CONFIGURED, BuildOptions
from runctl.containers.where import ImagePlanOfRun
from runctl.core.errors import ProjectError


@dataclass(frozen=True)
class ImageOptions:
    """What was asked for of a run's image."""

    build: BuildOptions = AS_CONFIGURED
    build_on: str | None = None
    only: bool = False
    """Nothing is run from the image."""


BY_CONFIGURATION = ImageOptions()


@dataclass(frozen=True)
class SettledImage:
    """The decision, once it is made."""

    container: ContainerSpec
    """As the agent gets it: with the image to pull, or the build."""
    shown: ImagePlanOfRun | None = None
    """``None`` where nothing is built."""


@dataclass(frozen=True)
class Shared:
    """The registry's part in an image that is built on a machine."""

    reference: str | None = None
    """The image's name there; ``None``: the machine keeps what it builds."""
    is_there: bool = False
    caches: Mapping[str, str] = field(default_factory=dict)
    """What is pushed with it: `runctl.agent.spec.BuildSpec.caches`."""
    will_create: tuple[str, ...] = ()
    """In words."""


NOT_SHARED = Shared()


def with_dev_parts(
    container: ContainerSpec,
    root: Path,
    script: str | None,
    files: Iterable[str],
    *,
    target: str | None = None,
) -> ContainerSpec:
    """The container with what its image is made of besides the code, so that dev-mode knows when to build.

    ``files`` are what is sent, from the root. Raises `ProjectError` for what cannot be read.
    """
    from runctl.containers.dev_image import dev_image
    from runctl.project.docker.dockerignore import ignore_files
    from runctl.project.inside import open_file, read_link

    def content(path: str) -> bytes:
        if (root / path).is_symlink():
            return os.fsencode(read_link(root, path))
        with open_file(root, path) as file:
            return file.read()

    dockerfile = str(container.dockerfile)
    try:
        found = dev_image(
            (root / dockerfile).read_text(encoding="utf-8-sig"),
            script,
            files,
            content,
            workdir=container.workdir,
            target=target,
            options={"dockerfile": dockerfile},
            ignore_files=ignore_files(dockerfile),
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"what the image is made of cannot be read: {error}") from error
    return replace(container, dev_parts=found.parts, dev_notes=found.notes)
