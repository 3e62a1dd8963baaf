"""An image that is about to be built or pushed: its names, its inputs, and the words for its cache. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.containers.build_commands import BuildCommand, Secret
from runctl.containers.cache_keeping import cache_tags
from runctl.containers.client import Builder
from runctl.containers.image_inputs import ImageInputs, repository_name
from runctl.core.errors import UsageError

PROJECT_LABEL = "runctl.project"
INPUTS_LABEL = "runctl.inputs"
"""The digest of what the image was built from."""
UNCHECKED = "unchecked-"
"""How the tag of an image begins that is being built, or was when its command was killed."""
BUILDX_CACHE_TAG = "buildcache"
"""What buildx exports: every step of every stage."""


@dataclass(frozen=True)
class Rebuild:
    """Whether an image that is there is built all the same."""

    no_cache: bool = False
    """``--rebuild``: every step."""
    pull: bool = False
    """``--pull``: on the newest base images; what they do not change comes from the cache."""

    def __bool__(self) -> bool:
        return self.no_cache or self.pull


NO_REBUILD = Rebuild()


@dataclass(frozen=True)
class BuildOptions:
    """How an image is to be built; what is not given comes from the configuration."""

    target: str | None = None
    """A stage of the Dockerfile."""
    args: tuple[str, ...] = ()
    """``K=V``, or ``K`` alone for the value of the variable."""
    secrets: tuple[str, ...] = ()
    """``id=NAME,src=FILE`` or ``id=NAME,env=VARIABLE``."""
    platform: str | None = None
    rebuild: Rebuild = NO_REBUILD

    @property
    def given(self) -> bool:
        """Whether any of it was given."""
        return self != BuildOptions()


AS_CONFIGURED = BuildOptions()


@dataclass(frozen=True)
class ImagePlan:
    """One image of a project."""

    root: Path
    project: str
    inputs: ImageInputs
    repository: str | None = None
    """In a registry, with its host; ``None``: the image stays in the engine."""

    @property
    def tag(self) -> str:
        """The digest of the inputs."""
        return self.inputs.tag

    @property
    def local(self) -> str:
        """Its name in an engine."""
        return f"{repository_name(self.project)}:{self.tag}"

    @property
    def remote(self) -> str | None:
        """Its name in the registry."""
        return f"{self.repository}:{self.tag}" if self.repository else None

    def unchecked(self, build: str) -> str:
        """Its name in an engine until it is known that no file changed under the build: one for each ``build``, as
        others that have the same engine may build the same folder meanwhile."""
        return f"{repository_name(self.project)}:{UNCHECKED}{build}"

    @property
    def labels(self) -> Mapping[str, str]:
        """What the image itself says of where it comes from."""
        return {PROJECT_LABEL: self.project, INPUTS_LABEL: self.inputs.digest}

    def check(self) -> None:
        """Raises `UsageError` for a target that is no stage, and for a Dockerfile without any."""
        parsed = self.inputs.parsed
        if not parsed.stages:
            raise UsageError(
                f"{self.inputs.dockerfile} has no FROM", hint="it is not a Dockerfile", code="no-stage"
            )
        if parsed.stage(self.inputs.target) is None:
            known = ", ".join(
                f"stage {stage.index} (without a name)" if stage.name is None else stage.name
                for stage in parsed.stages
            )
            raise UsageError(
                f"--target {self.inputs.target}: {self.inputs.dockerfile} has no such stage",
                hint=f"it has {known}",
                code="no-stage",
            )

    @property
    def stages(self) -> tuple[str | None, ...]:
        """What may be kept as caches: each stage below the image, then the image itself."""
        return (*(stage.target for stage in self.inputs.parsed.needed(self.inputs.target)[:-1]), None)

    def cache_sources(self) -> tuple[str, ...]:
        """Everything in the registry that a build may take steps from."""
        if self.repository is None:
            return ()
        tags = (*cache_tags(self.stages), BUILDX_CACHE_TAG)
        return tuple(f"{self.repository}:{tag}" for tag in tags)

    def command(
        self,
        builder: Builder,
        secrets: tuple[Secret, ...],
        *,
        rebuild: Rebuild = NO_REBUILD,
        exports_cache: bool = False,
        name: str | None = None,
        digest_file: Path | None = None,
    ) -> BuildCommand:
        """The build of the whole image, which is in the engine by this ``name`` afterwards; or, with ``digest_file``,
        in the registry by the digest in that file. With neither only its caches are kept."""
        exports = exports_cache and self.repository is not None
        return BuildCommand(
            context=self.root,
            dockerfile=self.inputs.dockerfile,
            tags=() if name is None else (name,),
            target=self.inputs.target,
            args=self.inputs.args,
            secrets=secrets,
            platform=self.inputs.platform if builder is not Builder.LEGACY else None,
            labels=self.labels,
            cache_from=() if rebuild.no_cache or builder is Builder.LEGACY else self.cache_sources(),
            cache_to=f"{self.repository}:{BUILDX_CACHE_TAG}" if exports else None,
            # Always: it may be pushed later, by a command of its own.
            inline_cache=not exports,
            pull=rebuild.pull,
            no_cache=rebuild.no_cache,
            push_to=self.repository if digest_file is not None else None,
            metadata_file=digest_file,
            keeps_image=name is not None,
        )

    def stage_command(self, command: BuildCommand, target: str, reference: str) -> BuildCommand:
        """The same for one of its stages, which is in the engine's cache by now."""
        return BuildCommand(
            context=command.context,
            dockerfile=command.dockerfile,
            tags=(reference,),
            target=target,
            args=command.args,
            secrets=command.secrets,
            platform=command.platform,
            labels={PROJECT_LABEL: self.project},
            cache_from=command.cache_from,
            inline_cache=True,
        )
