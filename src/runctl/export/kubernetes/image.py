"""The image that a Job runs: one that is named, or the project's own in a registry, by its digest."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec
from runctl.containers.dockerfile_text import copies, parse_dockerfile
from runctl.containers.image_plan import BuildOptions
from runctl.core.errors import ProjectError
from runctl.machines.session import Session
from runctl.project.docker.dockerfile import DockerfileChoice
from runctl.project.label import fit_for_a_tag
from runctl.providers.registry import usual_registry
from runctl.runs.images.build import ImageBuild, ImageProject

_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}


@dataclass(frozen=True)
class ImageReference:
    """What nodes pull."""

    reference: str
    notes: tuple[str, ...] = ()
    """What there is to say of it, in sentences."""


def named_image(reference: str) -> ImageReference:
    """The image that the user names."""
    if "@" in reference:
        return ImageReference(reference)
    return ImageReference(
        reference,
        (
            "The image is named by a tag, which may come to stand for another image: NAME@sha256:… names one for good.",
        ),
    )


@dataclass
class ProjectImage:
    """The image that the project's Dockerfile makes."""

    session: Session
    provider: str
    root: Path
    container: ContainerSpec
    options: BuildOptions
    architecture: str | None
    instance_type: str | None

    @cached_property
    def build(self) -> ImageBuild:
        """As the docker commands know it: the same inputs have the same name."""
        options = self.options
        if options.platform is None and self.architecture is not None:
            options = replace(options, platform=_PLATFORMS[self.architecture])
        config = self.session.config
        name = config.project.name or fit_for_a_tag(self.root.name)
        return ImageBuild(
            self.session,
            ImageProject(self.root, name, DockerfileChoice(str(self.container.dockerfile), "")),
            options,
            config.docker.registry or usual_registry(self.provider),
            self.provider,
            self.instance_type,
            without_engine="name an image that is in a registry: --image NAME@sha256:…",
        )

    def in_registry(self) -> bool:
        """Whether nothing has to be built or pushed."""
        return self.build.find(pushes=True) == "registry"

    def reference(self) -> ImageReference:
        """Of the image, which is in the registry."""
        remote = str(self.build.plan.remote)
        digest = self.build.digest()
        if digest is None:
            return ImageReference(
                remote,
                (
                    "The image is named by its tag, the digest of what it was built from: its own is not known here.",
                ),
            )
        return ImageReference(f"{self.build.plan.repository}@{digest}")


def check_code(root: Path, dockerfile: str, target: str | None, script: str | None) -> bool:
    """Whether the image has a working folder of its own; else the project is where runctl expects it.

    Raises `ProjectError` (code ``no-code``) where no instruction brings the script into it.
    """
    parsed = parse_dockerfile((root / dockerfile).read_text(encoding="utf-8-sig"))
    instructions = [each for stage in parsed.needed(target) for each in stage.instructions]
    copying = [each for each in instructions if each.keyword in {"COPY", "ADD"}]
    if script is not None and not any(copies(each, script) for each in copying):
        raise ProjectError(
            f"{dockerfile} copies no {script}, and a cluster gets nothing but the image",
            hint="add COPY . . to it; train puts the project over what an image has, and this cannot",
            code="no-code",
        )
    return any(each.keyword == "WORKDIR" for each in instructions)
